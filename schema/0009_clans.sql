-- Clans: which models hang together, so that a new model is compared with them and they are not compared again.

create table store.clans (
    spec        varchar not null,
    rules       varchar not null,
    found       varchar not null,
    inferred_at timestamptz not null,
    primary key (spec)
);
comment on table store.clans is 'Which models hang together, as far as they were compared; a result that can be had again';
comment on column store.clans.spec is 'Rules by which the entries that were compared were chosen, and about how many';
comment on column store.clans.rules is 'Digest of the rules'' sources by which they were compared';
comment on column store.clans.found is 'JSON list: by digest of the patches that were compared, clans, each of them lines of models, those that are no twins, and twins; and lines of models with NaN or infinity';
comment on column store.clans.inferred_at is 'When they were found';

comment on column store.sketch.invariants is 'Inner products of slices of the matrices at the network''s edges, JSON by name: base 64 of float32, little-endian; in older sketches a list of numbers';
