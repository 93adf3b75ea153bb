-- The histogram of a tensor is one row of lists: a row for every bin, each with its key, took longer to write than the
-- weights take to read.

alter table store.histogram rename to histogram_by_bin;

create table store.histogram (
    child    varchar not null,
    base     varchar not null,
    tensor   varchar not null,
    bins     integer[] not null,
    counts   bigint[] not null,
    sums_abs double[] not null,
    sums_sq  double[] not null,
    primary key (child, base, tensor)
);
comment on table store.histogram is 'Histogram of |δ| of one tensor of one pair, zeros left out; its lists are of one length';
comment on column store.histogram.child is 'Model that changed';
comment on column store.histogram.base is 'Model it is compared with';
comment on column store.histogram.tensor is 'Name of the tensor';
comment on column store.histogram.bins is 'floor(16·log2|δ|) of the bins that are not empty, ascending';
comment on column store.histogram.counts is 'Elements in each bin';
comment on column store.histogram.sums_abs is 'Σ|δ| in each bin';
comment on column store.histogram.sums_sq is 'Σδ² in each bin';

insert into store.histogram
select child, base, tensor, list(bin order by bin), list(n order by bin), list(sum_abs order by bin), list(sum_sq order by bin)
from store.histogram_by_bin
group by child, base, tensor
order by child, base, tensor;

drop table store.histogram_by_bin;
