-- The public face of the catalog: what `reg sql` is for. Names and columns are stable; every column has a comment
-- with its unit. Made anew whenever this file differs from the one the catalog was last written with.

-- Models: what there is and where.

-- The values of a JSON list of text: how a list of ids is given to a query.
create or replace macro store.each(ids) as unnest(cast(cast(ids as json) as varchar[]));

-- What models are called: at the address that was known first, else by others, else the beginning of their id.
create or replace macro store.first_name(name, known_since, uri) as min_by(name, {'since': known_since, 'uri': uri});

-- (A listed model has its name with it: a million names need not be gathered for every question.)
create or replace view store.named as
with placed as (
    select model_id, store.first_name(name, known_since, uri) as name from store.address
    where source <> 'listing' group by model_id
), claimed as (
    select resolved_id, min(object) as name from store.claim where resolved_id is not null group by resolved_id
)
select m.id, coalesce(p.name, case when m.status = 'listed' then m.called end, c.name, m.called,
                      substr(m.id, 1, 12)) as name
from store.model m
left join placed p on p.model_id = m.id
left join claimed c on c.resolved_id = m.id;
comment on view store.named is 'What every model is called';
comment on column store.named.id is 'Model';
comment on column store.named.name is 'Its name at the address known first, else what others call it, else the beginning of its id';

-- The same and what else decides a merge, for a JSON list of ids; by indexes, so fast however many others there are.
create or replace macro store.nodes(ids) as table
with placed as (
    select model_id, min_by(name, {'since': known_since, 'uri': uri}) filter (where source <> 'listing') as name,
           min_by(tokenizer, uri) as tokenizer, min_by(license, uri) as license
    from store.address where model_id in (select store.each(ids)) group by model_id
), claimed as (
    select resolved_id, min(object) as name from store.claim
    where resolved_id in (select store.each(ids)) group by resolved_id
)
select m.id, coalesce(p.name, case when m.status = 'listed' then m.called end, c.name, m.called,
                      substr(m.id, 1, 12)) as name, m.kind, m.status, m.dtype, m.signature,
       p.tokenizer, p.license
from store.model m
left join placed p on p.model_id = m.id
left join claimed c on c.resolved_id = m.id
where m.id in (select store.each(ids));

-- (Hundreds of thousands of listed models have edges: who asks for others only, as `reg ls` does, is spared them.)
create or replace view store.found_model as
select id, kind, status, dtype, n_params, n_bytes, n_tensors, signature, created_at from store.model
where status <> 'listed';
create or replace view store.listed_model as
select id, kind, status, dtype, n_params, n_bytes, n_tensors, signature, created_at from store.model
where status = 'listed';
create or replace view store.found_edge as
select child, parent, relation, role, status from store.edge
where child in (select id from store.found_model);

comment on view store.found_model is 'Models that were found or are named by others';
comment on column store.found_model.id is 'Hex digest that identifies the model';
comment on column store.found_model.kind is 'model or adapter';
comment on column store.found_model.status is 'full, header, listed (named by a listing, no file was read) or latent (named by somebody, shown by nobody)';
comment on column store.found_model.dtype is 'Dtype of most of the bytes, as safetensors spells it';
comment on column store.found_model.n_params is 'Number of stored parameters';
comment on column store.found_model.n_bytes is 'Size of the tensors, bytes';
comment on column store.found_model.n_tensors is 'Number of stored tensors';
comment on column store.found_model.signature is 'Hex digest of tensor names and shapes, vocabulary size and dtype left out';
comment on column store.found_model.created_at is 'When this catalog first saw it';
comment on view store.listed_model is 'Models of which a listing tells and no file was read';
comment on column store.listed_model.id is 'Hex digest that identifies the model';
comment on column store.listed_model.kind is 'model or adapter';
comment on column store.listed_model.status is 'full, header, listed (named by a listing, no file was read) or latent (named by somebody, shown by nobody)';
comment on column store.listed_model.dtype is 'Dtype of most of the bytes, as safetensors spells it';
comment on column store.listed_model.n_params is 'Number of stored parameters';
comment on column store.listed_model.n_bytes is 'Size of the tensors, bytes';
comment on column store.listed_model.n_tensors is 'Number of stored tensors';
comment on column store.listed_model.signature is 'Hex digest of tensor names and shapes, vocabulary size and dtype left out';
comment on column store.listed_model.created_at is 'When this catalog first saw it';
comment on view store.found_edge is 'Edges to the parents of models that are not only listed';
comment on column store.found_edge.child is 'Model that descends';
comment on column store.found_edge.parent is 'Model it descends from';
comment on column store.found_edge.relation is 'finetune, continued_pretrain, adapter, merge, quantized, cast, …';
comment on column store.found_edge.role is 'parent, or in a merge: base or model';
comment on column store.found_edge.status is 'declared (somebody says so), measured (the bytes prove it), inferred (the weights suggest it), recorded (our run did it)';

-- (A listed model has one place, so that nothing is to be gathered.)
create or replace macro store.described(some_models, some_edges) as table
with found as (
    select distinct model_id from store.address where source <> 'listing'
), place as (
    select model_id,
           list_sort(list(distinct name)) as names,
           list_sort(list(uri)) as addresses,
           min_by(family, uri) as family,
           min_by(architecture, uri) as architecture,
           min_by(tokenizer, uri) as tokenizer,
           min_by(license, uri) as license,
           min_by(task, uri) as task,
           min_by(library, uri) as library,
           max(downloads) as downloads,
           max(likes) as likes,
           min(published_at) as published_at,
           max(modified_at) as modified_at
    from store.address where model_id in (select model_id from found) group by model_id
    union all
    select model_id, [name], [uri], family, architecture, tokenizer, license, task, library, downloads, likes,
           published_at, modified_at
    from store.address where model_id not in (select model_id from found)
), descent as (
    select e.child,
           first(e.relation order by case e.status when 'recorded' then 0 when 'measured' then 1 when 'inferred' then 2
                                     else 3 end, e.relation) as relation,
           list_sort(list(distinct p.name)) as parents,
           coalesce(min(p.name) filter (where e.role = 'base'),
                    case when count(distinct e.parent) = 1 then min(p.name) end) as base
    from query_table(some_edges) e join store.named p on p.id = e.parent group by e.child
), scored as (
    select model_id, count(*) as n_scores,
           string_agg(task || ' ' || printf('%.3g', value), ', ' order by task, metric)
               filter (where origin = 'measured') as scores
    from store.score group by model_id
), aliased as (
    select model_id, list_sort(list('@' || name)) as aliases from store.alias group by model_id
)
select m.id, n.name, coalesce(l.names, [n.name]) as names, l.family, l.architecture, m.kind, m.status, m.dtype,
       m.n_params, m.n_bytes, m.n_tensors, m.signature, l.tokenizer, l.license, d.relation,
       coalesce(d.parents, []) as parents, d.base, coalesce(l.addresses, []) as addresses,
       coalesce(s.n_scores, 0) as n_scores, s.scores, m.created_at, l.task, l.library, l.downloads, l.likes,
       l.published_at, l.modified_at, coalesce(a.aliases, []) as aliases
from query_table(some_models) m
join store.named n on n.id = m.id
left join place l on l.model_id = m.id
left join descent d on d.child = m.id
left join scored s on s.model_id = m.id
left join aliased a on a.model_id = m.id;

create or replace view models as
from store.described('store.found_model', 'store.found_edge')
union all
from store.described('store.listed_model', 'store.edge');
comment on view models is 'One row per model: distinct weights, wherever they lie';
comment on column models.id is 'Hex digest that identifies the model';
comment on column models.name is 'Name people use; of several, that of the address known first';
comment on column models.names is 'All its names';
comment on column models.family is 'config model_type, for example llama';
comment on column models.architecture is 'First of config architectures';
comment on column models.kind is 'model or adapter';
comment on column models.status is 'full: all bytes were read; sampled: a sketch of them; header: none (of GGUF on the Hub perhaps not even the header: then without dtype and sizes); listed: named by a listing, no file was read; latent: named by somebody, shown by nobody';
comment on column models.dtype is 'Dtype of most of the bytes, as safetensors or GGUF spell it';
comment on column models.n_params is 'Number of stored parameters';
comment on column models.n_bytes is 'Size of the tensors, bytes';
comment on column models.n_tensors is 'Number of stored tensors';
comment on column models.signature is 'Hex digest of tensor names and shapes, vocabulary size and dtype left out';
comment on column models.tokenizer is 'Hex digest of the tokenizer';
comment on column models.license is 'Licence as its card says it; null where it says nothing';
comment on column models.relation is 'How it descends from its parents, by the strongest edge';
comment on column models.parents is 'Names of its parents';
comment on column models.base is 'Name of its base: of a merge, or the only parent';
comment on column models.addresses is 'Where it was found';
comment on column models.n_scores is 'Number of scores, claimed and measured';
comment on column models.scores is 'Measured scores in words';
comment on column models.created_at is 'When this catalog first saw it';
comment on column models.task is 'pipeline_tag, for example text-generation, as a listing says it';
comment on column models.library is 'library_name, for example transformers, as a listing says it';
comment on column models.downloads is 'Downloads as a listing counts them, on the Hub those of 30 days';
comment on column models.likes is 'Number of likes, as a listing says it';
comment on column models.published_at is 'When its repository was made, as a listing says it';
comment on column models.modified_at is 'When its repository was last changed, as a listing says it';
comment on column models.aliases is 'Names of our own for it, as they are typed: see the view aliases';

create or replace view tensors as
select t.model_id, n.name as model, t.name, t.dtype, t.shape, t.n_params, t.n_bytes, t.layer, t.module, t.digest
from store.tensor t join store.named n on n.id = t.model_id;
comment on view tensors is 'One row per tensor of every model';
comment on column tensors.model_id is 'Model it belongs to';
comment on column tensors.model is 'Name of that model';
comment on column tensors.name is 'Name as stored';
comment on column tensors.dtype is 'Dtype as safetensors or GGUF spell it';
comment on column tensors.shape is 'Shape as a JSON list';
comment on column tensors.n_params is 'Number of elements';
comment on column tensors.n_bytes is 'Size, bytes';
comment on column tensors.layer is 'Number of the layer, from 0; null outside of layers';
comment on column tensors.module is 'Part it plays: embedding, attention_q, mlp_down, norm, lm_head, …';
comment on column tensors.digest is 'Hex digest of dtype, shape and bytes; null when only headers were read';

create or replace view files as
select f.uri, a.model_id, f.path, f.format, f.size_bytes, make_timestamp_ns(f.mtime_ns) as modified_at
from store.file f left join store.address a using (uri);
comment on view files is 'One row per file of every address, good or bad';
comment on column files.uri is 'Address it belongs to';
comment on column files.model_id is 'Model found there; null where none could be read';
comment on column files.path is 'Path below the address';
comment on column files.format is 'safetensors, index, config, tokenizer, card, pickle, gguf, …';
comment on column files.size_bytes is 'Size, bytes';
comment on column files.modified_at is 'Time of the last change, UTC';

create or replace view problems as
select uri, file, error, detail, seen_at from store.problem;
comment on view problems is 'One row per file that could not be used';
comment on column problems.uri is 'Address it was found at';
comment on column problems.file is 'File below the address; empty for the whole';
comment on column problems.error is 'Name of the error';
comment on column problems.detail is 'What is wrong, in words';
comment on column problems.seen_at is 'When it was found';
