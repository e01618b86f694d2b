-- Keeps who may write in a conversation [MSG5].

ALTER TABLE ${ws}.members ADD COLUMN may_write boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN ${ws}.members.may_write IS 'False: the member reads, and is kept from writing.';
