/* One pass over memory for what element-wise merging does: read, subtract the base, pick, scale, combine, add, round.

   Every function does what its twin in engine/ops.py, engine/draws.py or engine/arithmetic.py does with torch, to the
   last bit: float32 arithmetic, products and sums rounded apart (compile with -ffp-contract=off), sums over elements in
   float64 over 16 lanes. Blocks of SUB elements stay in the first-level cache. */
#include "draws.h"
#include "election.h"
#include "tiles.h"

/* Entries minus a base's, times a scale: what a term is when nothing is picked. */
static void load_scaled(const void *data, int dtype, float scale, int n, const float *base, float *x)
{
    const uint16_t *y = data;
    if (dtype != BF16 || !base) {
        load_less(data, dtype, n, base, x);
        for (int i = 0; i < n; i++) x[i] *= scale;
        return;
    }
    for (int i = 0; i < n; i++) x[i] = (widened(y[i]) - base[i]) * scale;
}

/* The same, added to what is there. */
static void add_scaled(const void *data, int dtype, float scale, int n, const float *base, float *x)
{
    if (dtype == BF16) {
        const uint16_t *y = data;
        if (base)
            for (int i = 0; i < n; i++) x[i] += (widened(y[i]) - base[i]) * scale;
        else
            for (int i = 0; i < n; i++) x[i] += widened(y[i]) * scale;
    } else {
        const float *y = data;
        if (base)
            for (int i = 0; i < n; i++) x[i] += (y[i] - base[i]) * scale;
        else
            for (int i = 0; i < n; i++) x[i] += y[i] * scale;
    }
}

/* Zero what is not picked, and scale what is. */
static void pick(const term *t, stream *s, int64_t at, int n, float scale, float *x)
{
    if (t->pick == DRAWN) {
        uint32_t words[SUB];
        int32_t below = t->stays_below;
        float none = scale * 0.0f; /* of its sign */
        draw(s, n, words);
        for (int i = 0; i < n; i++) x[i] *= (int32_t)(words[i] >> 8) < below ? scale : none;
        return;
    }
    float beyond[SUB];
    if (t->pick == MIDDLE) largest(t->beyond, t->beyond_ties_end, at, n, x, beyond);
    largest(t->threshold, t->ties_end, at, n, x, x);
    if (t->pick == MIDDLE)
        for (int i = 0; i < n; i++) x[i] -= beyond[i];
    for (int i = 0; i < n; i++) x[i] *= scale;
}

static void weigh(const term *t, int64_t at, int n, int64_t columns, int by_row, float *x)
{
    if (!t->scales) {
        for (int i = 0; i < n; i++) x[i] *= t->scale;
        return;
    }
    for (int i = 0; i < n;) {
        int64_t place = at + i, row = place / columns, column = place % columns;
        int m = columns - column < n - i ? (int)(columns - column) : n - i;
        if (by_row) {
            float scale = t->scales[row];
            for (int j = 0; j < m; j++) x[i + j] *= scale;
        } else {
            const float *scales = t->scales + column;
            for (int j = 0; j < m; j++) x[i + j] *= scales[j];
        }
        i += m;
    }
}

/* Round n entries to `out` and compare them with those before; n is a multiple of LANES. 1 if any is NaN. */
static inline __attribute__((always_inline)) int round_some(int to_half, int n, const float *x, const float *before,
                                                            uint16_t *out, found *f)
{
    float delta[SUB];
    i8 same = {0}, lost = {0}, most = {0}, nan = {0};
    for (int i = 0; i < n; i += 8) {
        f8 now = eight(x + i), b = eight(before + i), after = now;
        if (to_half) {
            u8 w = (u8)now, near = w + 0x7fffu + (w >> 16 & 1u);
            after = (f8)(near & 0xffff0000u);
            h8 half = __builtin_convertvector(near >> 16, h8);
            memcpy(out + i, &half, sizeof half);
            nan |= (i8)(w & 0x7fffffffu) > 0x7f800000;
        }
        i8 alike = after == b;
        f8 change = after - b;
        i8 size = (i8)change & 0x7fffffff, more = size > most;
        same += alike;
        lost += alike & (now != b);
        most = (size & more) | (most & ~more);
        memcpy(delta + i, &change, sizeof change);
    }
    add_squares(delta, n, &f->squares);
    add_squares(before, n, &f->base_squares);
    int is_nan = 0;
    f->changed += n;
    for (int i = 0; i < 8; i++) {
        f->changed += same[i];
        f->lost -= lost[i];
        f->most = most[i] > f->most ? most[i] : f->most;
        is_nan |= nan[i];
    }
    return is_nan != 0;
}

/* Entries of a result that is at hand, and the reference's; both are changed, and filled up to a multiple of LANES. */
static void close_some(const closing *c, int64_t at, int n, int64_t end, float *x, float *before, found *f)
{
    uint16_t halves[SUB];
    if (c->add)
        for (int i = 0; i < n; i++) x[i] += before[i];
    int whole = filled(x, n);
    filled(before, n);
    if (c->out_dtype == BF16) {
        uint16_t *to = (uint16_t *)c->out + at;
        if (round_some(1, whole, x, before, halves, f)) {
            for (int i = 0; i < n; i++) halves[i] = x[i] != x[i] ? 0x7fc0u : halves[i];
            f->squares.part[0] += (double)NAN; /* the bits of some NaN are rounded to those of a number */
        }
        memcpy(to, halves, sizeof(uint16_t) * (size_t)n);
    } else {
        round_some(0, whole, x, before, NULL, f);
        memcpy((float *)c->out + at, x, sizeof(float) * (size_t)n);
    }
    if ((at + n) % c->block == 0 || at + n == end) {
        c->stats[at / c->block] = (change){
            folded(&f->squares), folded(&f->base_squares), float_of((uint32_t)f->most), f->changed, f->lost};
        memset(f, 0, sizeof *f);
    }
}

/* Add the reference, round, and sum up what that changed; UNREADABLE where the reference cannot be read, else -1. */
int32_t finish(const float *result, const closing *c, int64_t n)
{
    float x[SUB], before[SUB];
    tiles t = {.n_sources = 1, .from = {&c->reference}};
    found f = {0};
    int32_t done = -1;
    if (!open_tiles(&t, n)) return UNREADABLE;
    for (int64_t at = 0; at < n && done == -1; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (!reach(&t, at, m, n)) {
            done = UNREADABLE;
            break;
        }
        load(entries(&t, 0, at), c->reference.dtype, m, before);
        memcpy(x, result + at, sizeof(float) * (size_t)m);
        close_some(c, at, m, n, x, before, &f);
    }
    free(t.scratch);
    return done;
}

/* Whose entries are not finite: the term's number, k for the base, else -1. */
static int32_t who(const merge *m, const tiles *read, int64_t at, int n)
{
    float x[SUB];
    if (m->has_base && load(entries(read, m->n_terms, at), m->base.dtype, n, x)) return m->n_terms;
    for (int t = 0; t < m->n_terms; t++)
        if (load(entries(read, t, at), read->from[t]->dtype, n, x)) return t;
    return -1;
}

/* Of bfloat16 entries less the base's those whose magnitude has a larger key than `most_dropped`, scaled; the largest key
   of all of them, which tells whether one may not be finite. */
static uint32_t load_above(const uint16_t *y, int n, const float *base, uint32_t most_dropped, float scale, float *x)
{
    int32_t most = 0, dropped = (int32_t)most_dropped;
    for (int i = 0; i < n; i++) {
        float change = widened(y[i]) - base[i];
        int32_t key = (int32_t)(bits_of(change) & 0x7fffffffu);
        most = key > most ? key : most;
        x[i] = (key > dropped ? change : 0.0f) * scale;
    }
    return (uint32_t)most;
}

/* The largest of a term's entries less the base's, scaled; 1 when one that was read may not be finite. */
static int load_largest(const term *t, const void *data, int64_t at, int n, const float *base, float scale, float *x)
{
    int64_t left = t->ties_end - at;
    int split = left <= 0 ? 0 : left >= n ? n : (int)left;
    float high = t->threshold, low = high > 0 ? nextafterf(high, 0.0f) : 0.0f;
    if (t->from.dtype == BF16) {
        const uint16_t *y = data;
        uint32_t one = load_above(y, split, base, bits_of(low), scale, x);
        uint32_t other = load_above(y + split, n - split, base + split, bits_of(high), scale, x + split);
        return one >= 0x7f800000u || other >= 0x7f800000u;
    }
    int bad = load_less(data, t->from.dtype, n, base, x);
    for (int i = 0; i < split; i++) x[i] = (fabsf(x[i]) <= low ? 0.0f : x[i]) * scale;
    for (int i = split; i < n; i++) x[i] = (fabsf(x[i]) <= high ? 0.0f : x[i]) * scale;
    return bad;
}

/* What chance keeps of a bfloat16 term less the base, scaled; 1 when one that was read may not be finite. */
static int load_drawn(const term *t, const void *data, stream *s, int n, const float *base, float scale, float *x)
{
    uint32_t words[SUB];
    const uint16_t *y = data;
    int32_t below = t->stays_below, most = 0;
    float none = scale * 0.0f; /* of its sign */
    draw(s, n, words);
    for (int i = 0; i < n; i++) {
        float change = widened(y[i]) - base[i];
        int32_t key = (int32_t)(bits_of(change) & 0x7fffffffu);
        most = key > most ? key : most;
        x[i] = change * ((int32_t)(words[i] >> 8) < below ? scale : none);
    }
    return most >= 0x7f800000;
}

/* One term's entries less the base's, picked and scaled; 1 when one that was read may not be finite. */
static int part(const merge *m, const term *t, const void *data, stream *s, int64_t at, int n, const float *base,
                float *x)
{
    int plain = m->of_values || t->scales;
    float scale = plain ? 1.0f : t->scale;
    if (t->pick == LARGEST && base && !t->scales) return load_largest(t, data, at, n, base, scale, x);
    if (t->pick == DRAWN && base && !t->scales && t->from.dtype == BF16)
        return load_drawn(t, data, s, n, base, scale, x);
    int bad = load_less(data, t->from.dtype, n, base, x);
    if (t->pick != ALL) pick(t, s, at, n, scale, x);
    if (t->scales || (t->pick == ALL && !plain)) weigh(t, at, n, m->columns, m->by_row, x);
    return bad;
}

/* Add what chance keeps of a bfloat16 term less the base, scaled, to what is there. */
static void add_drawn(const term *t, const void *data, stream *s, int n, const float *base, float *x)
{
    uint32_t words[SUB];
    const uint16_t *y = data;
    int32_t below = t->stays_below;
    float scale = t->scale, none = scale * 0.0f;
    draw(s, n, words);
    for (int i = 0; i < n; i++)
        x[i] += (widened(y[i]) - base[i]) * ((int32_t)(words[i] >> 8) < below ? scale : none);
}

/* Add up the terms; 1 when an entry that was read may not be finite: one that is added makes the sum not finite. */
static int add_up(const merge *m, const term *terms, const tiles *read, stream *streams, int64_t at, int n,
                  const float *base, float *x)
{
    float next[SUB];
    uint32_t bad = 0;
    for (int t = 0; t < m->n_terms; t++) {
        const term *one = &terms[t];
        const void *data = entries(read, t, at);
        if (one->pick == ALL && !one->scales) {
            (t ? add_scaled : load_scaled)(data, one->from.dtype, one->scale, n, base, x);
            continue;
        }
        if (t && one->pick == DRAWN && !one->scales && base && one->from.dtype == BF16) {
            add_drawn(one, data, &streams[t], n, base, x);
            continue;
        }
        bad |= (uint32_t)part(m, one, data, &streams[t], at, n, base, t ? next : x);
        for (int i = 0; i < n && t; i++) x[i] += next[i];
    }
    for (int i = 0; i < n; i++) bad |= (bits_of(x[i]) & 0x7f800000u) == 0x7f800000u;
    return bad != 0;
}

static int is_same(const source *a, const source *b)
{
    return a->data == b->data && (a->data || (a->file == b->file && a->offset == b->offset));
}

/* Combine SUB entries at most; whose entries are not finite, else -1. */
static int32_t combine_some(merge *m, const term *terms, const tiles *read, stream *streams, int64_t at, int n,
                            float *base, float *x)
{
    static __thread float parts[MANY][SUB];
    int bad = 0, k = m->n_terms;
    const float *from = m->has_base ? base : NULL;
    if (from) bad = load(entries(read, k, at), m->base.dtype, n, base);
    if (m->how == SUM) {
        bad |= add_up(m, terms, read, streams, at, n, from, x);
    } else {
        for (int t = 0; t < k; t++) {
            bad |= part(m, &terms[t], entries(read, t, at), &streams[t], at, n, from, parts[t]);
            filled(parts[t], n);
        }
        if (m->among) keep_varied(m->among, k, at, n, parts);
    }
    int32_t whose = bad ? who(m, read, at, n) : -1;
    if (whose >= 0) return whose;
    if (m->how == VOTE) vote(m, parts, n);
    if (m->how == AGREE) settle(m, terms, parts, n, x);
    return -1;
}

int32_t combine_span(merge *m, const term *terms, int64_t from, int64_t to, float *out, const closing *c, found *f)
{
    static __thread stream streams[MANY];
    float base[SUB], before[SUB], x[SUB];
    int k = m->n_terms, reference = -1;
    tiles read = {.n_sources = k};
    int32_t whose = -1;
    if (k > MANY) return TOO_MANY;
    for (int t = 0; t < k; t++) {
        read.from[t] = &terms[t].from;
        if (terms[t].pick == DRAWN) begin(&streams[t], terms[t].key, terms[t].start + from);
    }
    if (m->has_base) read.from[read.n_sources++] = &m->base;
    for (int i = 0; c && i < read.n_sources; i++)
        if (is_same(read.from[i], &c->reference)) reference = i;
    if (c && reference < 0) read.from[reference = read.n_sources++] = &c->reference;
    if (!open_tiles(&read, to)) return UNREADABLE;
    for (int64_t at = from; at < to && whose == -1; at += SUB) {
        int n = to - at < SUB ? (int)(to - at) : SUB;
        whose = reach(&read, at, n, to) ? combine_some(m, terms, &read, streams, at, n, base, x) : UNREADABLE;
        if (whose != -1 || m->how == VOTE) continue;
        if (out) memcpy(out + at, x, sizeof(float) * (size_t)n);
        if (!c) continue;
        int is_base = m->has_base && reference == k;
        if (!is_base) load(entries(&read, reference, at), c->reference.dtype, n, before);
        close_some(c, at, n, m->n, x, is_base ? base : before, f);
    }
    free(read.scratch);
    return whose;
}

/* Combine all entries of the terms. */
int32_t combine(merge *m, const term *terms, float *out, const closing *c)
{
    found f = {0};
    return combine_span(m, terms, 0, m->n, out, c, &f);
}

/* One model, or its task vector, in float32. 0: the model is not finite; 1: the base; -1: all is well. */
int32_t read_floats(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n, float *out)
{
    float from[SUB];
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(behind(base, base_dtype, at), base_dtype, m, from)) return 1;
        if (load_less(behind(data, dtype, at), dtype, m, base ? from : NULL, out + at)) return 0;
    }
    return -1;
}
