-- Listings: what lists of a hub's repositories say of models of which no file was read. They are addresses like others.
-- What they claim stays with the address, for there are millions of them; it becomes rows of store.claim when a model
-- whose files were read takes the place of the listed one.

alter table store.address add column listed_kind varchar;
alter table store.address add column revision varchar;
alter table store.address add column task varchar;
alter table store.address add column library varchar;
alter table store.address add column downloads bigint;
alter table store.address add column likes bigint;
alter table store.address add column published_at timestamptz;
alter table store.address add column modified_at timestamptz;
alter table store.address add column says varchar;
alter table store.address add column listing varchar;
alter table store.address add column listed varchar;
comment on column store.address.listed_kind is 'What a listing lets guess of it: model or adapter; of a listing only, as all that follow';
comment on column store.address.revision is 'Commit of its main branch when it was listed';
comment on column store.address.task is 'pipeline_tag, for example text-generation';
comment on column store.address.library is 'library_name, for example transformers';
comment on column store.address.downloads is 'Downloads as the listing counts them, on the Hub those of 30 days';
comment on column store.address.likes is 'Number of likes';
comment on column store.address.published_at is 'When the repository was made';
comment on column store.address.modified_at is 'When it was last changed';
comment on column store.address.says is 'What the listing claims, JSON list of predicate, object, relation, raw and node, the model that object stands for; null for nothing';
comment on column store.address.listing is 'Absolute path of the file that listed it last';
comment on column store.address.listed is 'Hex digest of all that the file says of it';

alter table store.model add column called varchar;
comment on column store.model.called is 'What listings call a model of which no file was read; null for all others';

comment on column store.model.id is 'Hex digest of the canonical tensor content (status full), of headers and address (header), of a name (listed, latent)';
comment on column store.model.status is 'full: every byte digested; header: headers only; listed: named by a listing, no file was read; latent: somebody names it, nobody has shown it';
comment on column store.claim.source is 'Where it hides: card, adapter_config, config, mergekit_config, metadata, sidecar or listing';
