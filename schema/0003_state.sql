-- Some methods leave a state behind, from which they go on when another model is merged into their result.

alter table store.run add column state varchar;
comment on column store.run.state is 'What the method needs to go on merging into the result, as JSON: name → number; null for most methods';
