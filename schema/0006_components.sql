-- Components: what was inferred of models that hang together, so that it need not be inferred again.

create table store.component (
    id          varchar not null,
    spec        varchar not null,
    found       varchar not null,
    inferred_at timestamptz not null,
    primary key (id)
);
comment on table store.component is 'What was inferred of models that hang together; a result that can be had again, kept until its models change';
comment on column store.component.id is 'Digest of all it follows from: the rules'' sources, the models'' ids and which of their entries were looked at';
comment on column store.component.spec is 'Rules by which the entries were chosen, and about how many';
comment on column store.component.found is 'JSON list of edges, names of latent parents, and the root';
comment on column store.component.inferred_at is 'When it was inferred';
