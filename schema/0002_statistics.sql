-- Delta statistics: accumulators of (child, base) pairs, addable over tensors, and what only a histogram or a
-- spectrum can tell. Everything else about a delta is derived from them in the views.

create table store.pair (
    child         varchar not null,
    base          varchar not null,
    version       varchar not null,
    scope         varchar not null,
    n_aligned     bigint not null,
    n_cropped     bigint not null,
    n_only_child  bigint not null,
    n_only_base   bigint not null,
    n_mismatched  bigint not null,
    n_uncounted   bigint not null,
    read_bytes    bigint not null,
    seconds       double not null,
    measured_at   timestamptz not null,
    abs_p01       double,
    abs_p10       double,
    abs_p25       double,
    abs_p50       double,
    abs_p75       double,
    abs_p90       double,
    abs_p99       double,
    top1_mass_l2  double,
    top20_mass_l2 double,
    top1_mass_l1  double,
    top20_mass_l1 double,
    primary key (child, base)
);
comment on table store.pair is 'Pairs of models whose delta was measured';
comment on column store.pair.child is 'Model that changed';
comment on column store.pair.base is 'Model it is compared with';
comment on column store.pair.version is 'Version of the arithmetic';
comment on column store.pair.scope is 'full: every element; sampled: some';
comment on column store.pair.n_aligned is 'Tensors compared';
comment on column store.pair.n_cropped is 'Tensors of which only shared rows were compared: the vocabulary grew or shrank';
comment on column store.pair.n_only_child is 'Tensors the base lacks';
comment on column store.pair.n_only_base is 'Tensors the child lacks';
comment on column store.pair.n_mismatched is 'Tensors of another shape';
comment on column store.pair.n_uncounted is 'Tensors whose dtype holds codes or whole numbers';
comment on column store.pair.read_bytes is 'Tensor bytes read';
comment on column store.pair.seconds is 'Time it took';
comment on column store.pair.measured_at is 'When';
comment on column store.pair.abs_p01 is '1 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.abs_p10 is '10 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.abs_p25 is '25 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.abs_p50 is '50 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.abs_p75 is '75 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.abs_p90 is '90 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.abs_p99 is '99 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.pair.top1_mass_l2 is 'Share of Σδ² in the 1 % of elements with the largest |δ|, 0 to 1';
comment on column store.pair.top20_mass_l2 is 'Share of Σδ² in the top 20 %, 0 to 1';
comment on column store.pair.top1_mass_l1 is 'Share of Σ|δ| in the top 1 %, 0 to 1';
comment on column store.pair.top20_mass_l1 is 'Share of Σ|δ| in the top 20 %, 0 to 1';

create table store.delta (
    child         varchar not null,
    base          varchar not null,
    tensor        varchar not null,
    status        varchar not null,
    layer         integer,
    module        varchar not null,
    child_dtype   varchar,
    base_dtype    varchar,
    child_shape   varchar,
    base_shape    varchar,
    n             bigint,
    n_zero        bigint,
    n_positive    bigint,
    n_negative    bigint,
    n_nonfinite   bigint,
    sum_delta     double,
    sum_sq        double,
    sum_cube      double,
    sum_fourth    double,
    sum_abs       double,
    max_abs       double,
    min_delta     double,
    max_delta     double,
    base_sum_sq   double,
    base_dot      double,
    base_sum_abs  double,
    base_max_abs  double,
    n_within_0002 bigint,
    n_within_0005 bigint,
    n_within_001  bigint,
    n_within_002  bigint,
    n_within_005  bigint,
    n_within_01   bigint,
    n_within_03   bigint,
    abs_p01       double,
    abs_p10       double,
    abs_p25       double,
    abs_p50       double,
    abs_p75       double,
    abs_p90       double,
    abs_p99       double,
    top1_mass_l2  double,
    top20_mass_l2 double,
    top1_mass_l1  double,
    top20_mass_l1 double,
    primary key (child, base, tensor)
);
comment on table store.delta is 'Accumulators of one tensor of one pair';
comment on column store.delta.child is 'Model that changed';
comment on column store.delta.base is 'Model it is compared with';
comment on column store.delta.tensor is 'Name of the tensor';
comment on column store.delta.status is 'aligned, cropped, only_child, only_base, mismatched or uncounted';
comment on column store.delta.layer is 'Number of the layer, from 0; null outside of layers';
comment on column store.delta.module is 'Part it plays: embedding, attention_q, mlp_down, norm, …';
comment on column store.delta.child_dtype is 'Dtype in the child';
comment on column store.delta.base_dtype is 'Dtype in the base';
comment on column store.delta.child_shape is 'Shape in the child, JSON list';
comment on column store.delta.base_shape is 'Shape in the base, JSON list';
comment on column store.delta.n is 'Elements compared, finite in both';
comment on column store.delta.n_zero is 'Elements with δ exactly 0';
comment on column store.delta.n_positive is 'Elements with δ > 0';
comment on column store.delta.n_negative is 'Elements with δ < 0';
comment on column store.delta.n_nonfinite is 'Elements left out: NaN or infinite in child or base';
comment on column store.delta.sum_delta is 'Σδ, unit of the weights';
comment on column store.delta.sum_sq is 'Σδ²';
comment on column store.delta.sum_cube is 'Σδ³';
comment on column store.delta.sum_fourth is 'Σδ⁴';
comment on column store.delta.sum_abs is 'Σ|δ|, unit of the weights';
comment on column store.delta.max_abs is 'Largest |δ|, unit of the weights';
comment on column store.delta.min_delta is 'Smallest δ; null for no elements';
comment on column store.delta.max_delta is 'Largest δ; null for no elements';
comment on column store.delta.base_sum_sq is 'ΣW0² of the base';
comment on column store.delta.base_dot is 'ΣW0·δ';
comment on column store.delta.base_sum_abs is 'Σ|W0|';
comment on column store.delta.base_max_abs is 'Largest |W0|';
comment on column store.delta.n_within_0002 is 'Elements with |δ| at most 0.0002';
comment on column store.delta.n_within_0005 is 'Elements with |δ| at most 0.0005';
comment on column store.delta.n_within_001 is 'Elements with |δ| at most 0.001';
comment on column store.delta.n_within_002 is 'Elements with |δ| at most 0.002';
comment on column store.delta.n_within_005 is 'Elements with |δ| at most 0.005';
comment on column store.delta.n_within_01 is 'Elements with |δ| at most 0.01';
comment on column store.delta.n_within_03 is 'Elements with |δ| at most 0.03';
comment on column store.delta.abs_p01 is '1 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.abs_p10 is '10 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.abs_p25 is '25 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.abs_p50 is '50 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.abs_p75 is '75 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.abs_p90 is '90 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.abs_p99 is '99 % of all |δ| are at most this, zeros included; from the histogram, ± 2.2 %; unit of the weights';
comment on column store.delta.top1_mass_l2 is 'Share of Σδ² in the 1 % of elements with the largest |δ|, 0 to 1';
comment on column store.delta.top20_mass_l2 is 'Share of Σδ² in the top 20 %, 0 to 1';
comment on column store.delta.top1_mass_l1 is 'Share of Σ|δ| in the top 1 %, 0 to 1';
comment on column store.delta.top20_mass_l1 is 'Share of Σ|δ| in the top 20 %, 0 to 1';

create table store.histogram (
    child   varchar not null,
    base    varchar not null,
    tensor  varchar not null,
    bin     integer not null,
    n       bigint not null,
    sum_abs double not null,
    sum_sq  double not null,
    primary key (child, base, tensor, bin)
);
comment on table store.histogram is 'Histogram of |δ| of one tensor of one pair, zeros left out';
comment on column store.histogram.child is 'Model that changed';
comment on column store.histogram.base is 'Model it is compared with';
comment on column store.histogram.tensor is 'Name of the tensor';
comment on column store.histogram.bin is 'floor(16·log2|δ|)';
comment on column store.histogram.n is 'Elements in the bin';
comment on column store.histogram.sum_abs is 'Σ|δ| in the bin';
comment on column store.histogram.sum_sq is 'Σδ² in the bin';

create table store.spectrum (
    child               varchar not null,
    base                varchar not null,
    tensor              varchar not null,
    sigma_max           double not null,
    frobenius           double not null,
    stable_rank         double not null,
    effective_rank      double,
    participation_ratio double not null,
    energy_rank         bigint,
    numerical_rank      bigint,
    top4_energy         double not null,
    intruder_count      bigint,
    method              varchar not null,
    n_components        bigint not null,
    primary key (child, base, tensor)
);
comment on table store.spectrum is 'Singular values of the delta of one matrix of one pair';
comment on column store.spectrum.child is 'Model that changed';
comment on column store.spectrum.base is 'Model it is compared with';
comment on column store.spectrum.tensor is 'Name of the tensor';
comment on column store.spectrum.sigma_max is 'Largest singular value of δ, unit of the weights';
comment on column store.spectrum.frobenius is 'Frobenius norm of δ, unit of the weights';
comment on column store.spectrum.stable_rank is '‖δ‖²/σ1², at least 1';
comment on column store.spectrum.effective_rank is 'exp of the entropy of σ/Σσ; null where not all σ are known';
comment on column store.spectrum.participation_ratio is '(Σσ²)²/Σσ⁴, at least 1';
comment on column store.spectrum.energy_rank is 'Fewest σ that leave a relative error of 0.05; null where not known';
comment on column store.spectrum.numerical_rank is 'Number of σ above 1e-5 of the largest; null where not known';
comment on column store.spectrum.top4_energy is 'Share of Σσ² in the four largest, 0 to 1';
comment on column store.spectrum.intruder_count is 'Of the first 10 left singular vectors of the child, those unlike all of the base (cosine below 0.5); null where not computed';
comment on column store.spectrum.method is 'full or randomised';
comment on column store.spectrum.n_components is 'Singular values computed';
