-- Returns the answer's beginning alone.
return answer
