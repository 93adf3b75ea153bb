-- The Hub: what it calls the contents of files, by which files that were never fetched are recognised.

alter table store.file add column etag varchar;
alter table store.file add column xet varchar;
comment on column store.file.etag is 'What the Hub calls its content: SHA-256 of a large file, git''s blob id of a small one, hex; null where neither the Hub nor its cache says so';
comment on column store.file.xet is 'What the Hub''s storage calls its content; null where it does not say';

comment on column store.address.uri is 'Absolute path, hf-cache:org/name@commit, hf://org/name@commit with what is inside of the repository, or of a listing hf://org/name';
comment on column store.address.root is 'Absolute path of the folder or file; of the Hub and of a listing the address once more';
comment on column store.address.source is 'local, hf-cache, hub or listing';
