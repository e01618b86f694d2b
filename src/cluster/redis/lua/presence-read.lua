-- KEYS: after those of answer.lua the records. Returns after its answer each record with its version in front, or nothing.
for at = 3, #KEYS do answer[at + 1] = redis.call('GET', KEYS[at]) end
return answer
