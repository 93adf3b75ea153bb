/* One pass over memory for what element-wise merging does: read, subtract the base, pick, scale, combine, add, round.

   Every function does what its twin in engine/ops.py, engine/draws.py or engine/arithmetic.py does with torch, to the
   last bit: float32 arithmetic, products and sums rounded apart (compile with -ffp-contract=off), sums over elements in
   float64 over 16 lanes. Blocks of SUB elements stay in the first-level cache. */
#include "kernels.h"

#define TINY 1e-8f

static inline float widened(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

/* Entries minus a base's, times a scale: what a term is when nothing is picked. */
static void load_scaled(const term *t, int64_t at, int n, const float *base, float *x)
{
    float scale = t->scale;
    if (t->dtype != BF16 || !base) {
        load(t->data, t->dtype, at, n, x);
        if (base) subtract(x, base, n);
        for (int i = 0; i < n; i++) x[i] *= scale;
        return;
    }
    const uint16_t *y = (const uint16_t *)t->data + at;
    for (int i = 0; i < n; i++) x[i] = (widened(y[i]) - base[i]) * scale;
}

/* The same, added to what is there. */
static void add_scaled(const term *t, int64_t at, int n, const float *base, float *x)
{
    float scale = t->scale;
    if (t->dtype == BF16) {
        const uint16_t *y = (const uint16_t *)t->data + at;
        if (base)
            for (int i = 0; i < n; i++) x[i] += (widened(y[i]) - base[i]) * scale;
        else
            for (int i = 0; i < n; i++) x[i] += widened(y[i]) * scale;
    } else {
        const float *y = (const float *)t->data + at;
        if (base)
            for (int i = 0; i < n; i++) x[i] += (y[i] - base[i]) * scale;
        else
            for (int i = 0; i < n; i++) x[i] += y[i] * scale;
    }
}

static inline uint64_t next_word(unsigned __int128 *state, unsigned __int128 step)
{
    const uint64_t multiplier = 0xda942042e4dd58b5ULL;
    uint64_t high = (uint64_t)(*state >> 64), low = (uint64_t)*state | 1;
    high ^= high >> 32;
    high *= multiplier;
    high ^= high >> 48;
    high *= low;
    *state = *state * multiplier + step;
    return high;
}

/* A stream of 32-bit halves of words, and the one left over. */
typedef struct {
    unsigned __int128 state, step;
    uint32_t left;
    int has_left;
} stream;

static stream begin(const uint64_t state[2], const uint64_t step[2], int half)
{
    stream s = {((unsigned __int128)state[1] << 64) | state[0], ((unsigned __int128)step[1] << 64) | step[0], 0, 0};
    if (half) {
        s.left = (uint32_t)(next_word(&s.state, s.step) >> 32);
        s.has_left = 1;
    }
    return s;
}

static void draw(stream *s, int n, uint32_t *out)
{
    int i = 0;
    if (n && s->has_left) {
        out[i++] = s->left;
        s->has_left = 0;
    }
    unsigned __int128 state = s->state, step = s->step;
    for (; i + 1 < n; i += 2) {
        uint64_t w = next_word(&state, step);
        out[i] = (uint32_t)w;
        out[i + 1] = (uint32_t)(w >> 32);
    }
    if (i < n) {
        uint64_t w = next_word(&state, step);
        out[i] = (uint32_t)w;
        s->left = (uint32_t)(w >> 32);
        s->has_left = 1;
    }
    s->state = state;
}

/* Uniform numbers in [0, 1) of 24 bits. */
void uniform(const uint64_t *state, const uint64_t *step, int32_t half, int64_t n, float *out)
{
    uint32_t words[SUB];
    stream s = begin(state, step, half);
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        draw(&s, m, words);
        for (int i = 0; i < m; i++) out[at + i] = (float)(int32_t)(words[i] >> 8) * 0x1p-24f;
    }
}

/* Zero what is not picked. */
static void pick(const term *t, stream *s, int64_t at, int n, float *x)
{
    if (t->pick == LARGEST) {
        int64_t left = t->ties_end - at;
        int split = left <= 0 ? 0 : left >= n ? n : (int)left;
        float high = t->threshold, low = high > 0 ? nextafterf(high, 0.0f) : 0.0f;
        for (int i = 0; i < split; i++) x[i] = fabsf(x[i]) <= low ? 0.0f : x[i];
        for (int i = split; i < n; i++) x[i] = fabsf(x[i]) <= high ? 0.0f : x[i];
    } else if (t->pick == DRAWN) {
        uint32_t words[SUB];
        draw(s, n, words);
        for (int i = 0; i < n; i++) x[i] *= (words[i] >> 8) < t->stays_below ? 1.0f : 0.0f;
    }
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

static void elect(float (*parts)[SUB], int k, int n, int by_count, float *sign)
{
    for (int i = 0; i < n; i++) sign[i] = 0.0f;
    for (int t = 0; t < k; t++) {
        const float *x = parts[t];
        if (by_count)
            for (int i = 0; i < n; i++) sign[i] += (float)((x[i] > 0) - (x[i] < 0));
        else
            for (int i = 0; i < n; i++) sign[i] += x[i];
    }
    for (int i = 0; i < n; i++) sign[i] = (float)((sign[i] > 0) - (sign[i] < 0));
}

static void agree(float (*parts)[SUB], float *sign, int k, int n, const float *weights, float winner, int normalize,
                  float *out)
{
    float divisor[SUB];
    for (int i = 0; i < n; i++) {
        float settled = sign[i] * 2.0f + winner;
        sign[i] = (float)((settled > 0) - (settled < 0));
        out[i] = divisor[i] = 0.0f;
    }
    for (int t = 0; t < k; t++) {
        const float *x = parts[t];
        float weight = weights[t];
        for (int i = 0; i < n; i++) {
            float agreeing = x[i] * sign[i];
            agreeing = agreeing > 0 ? agreeing : 0.0f;
            out[i] += agreeing;
            divisor[i] += agreeing > 0 ? weight : 0.0f;
        }
    }
    if (normalize)
        for (int i = 0; i < n; i++) out[i] /= divisor[i] + (fabsf(divisor[i]) < TINY ? 1.0f : 0.0f);
    for (int i = 0; i < n; i++) out[i] *= sign[i];
}

typedef struct {
    double sum_sq, base_sum_sq, max_abs;
    int64_t n_changed, n_lost;
} change;

/* What becomes of a result: the reference is added if asked to, it is rounded, and what that changed is summed up. Sums
   begin anew every `block` entries, a multiple of SUB: stats[entry / block]. */
typedef struct {
    const void *reference;
    void *out;
    change *stats;
    int32_t dtype, out_dtype, add;
    int64_t block;
} closing;

typedef struct {
    lanes squares, base_squares;
    uint32_t most;
    int32_t changed, lost;
} found;

/* Entries of a result that is at hand, and the reference's; what lies behind them up to a multiple of LANES is lost. */
static void close_some(const closing *c, int64_t at, int n, int64_t end, float *x, float *before, found *f)
{
    float delta[SUB];
    if (c->add)
        for (int i = 0; i < n; i++) x[i] += before[i];
    int32_t changed = 0, lost = 0;
    uint32_t most = f->most;
    if (c->out_dtype == BF16) {
        uint16_t *to = (uint16_t *)c->out + at;
        for (int i = 0; i < n; i++) {
            uint32_t w = bits_of(x[i]), near = (w + 0x7fffu + ((w >> 16) & 1u)) >> 16;
            near = (w & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : near;
            to[i] = (uint16_t)near;
            delta[i] = float_of(near << 16);
        }
        for (int i = 0; i < n; i++) {
            int same = delta[i] == before[i];
            changed += !same;
            lost += same & (x[i] != before[i]);
        }
    } else {
        memcpy((float *)c->out + at, x, sizeof(float) * (size_t)n);
        memcpy(delta, x, sizeof(float) * (size_t)n);
        for (int i = 0; i < n; i++) changed += delta[i] != before[i];
    }
    for (int i = 0; i < n; i++) {
        delta[i] -= before[i];
        uint32_t size = bits_of(delta[i]) & 0x7fffffffu;
        most = size > most ? size : most;
    }
    int whole = filled(delta, n);
    filled(before, n);
    add_squares(delta, whole, &f->squares);
    add_squares(before, whole, &f->base_squares);
    f->most = most;
    f->changed += changed;
    f->lost += lost;
    if ((at + n) % c->block == 0 || at + n == end) {
        c->stats[at / c->block] =
            (change){folded(&f->squares), folded(&f->base_squares), float_of(f->most), f->changed, f->lost};
        memset(f, 0, sizeof *f);
    }
}

/* Add the reference, round, and sum up what that changed. */
void finish(const float *result, const closing *c, int64_t n)
{
    float x[SUB], before[SUB];
    found f = {0};
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        load(c->reference, c->dtype, at, m, before);
        memcpy(x, result + at, sizeof(float) * (size_t)m);
        close_some(c, at, m, n, x, before, &f);
    }
}

/* How k models are combined. */
enum { SUM, AGREE, VOTE };

typedef struct {
    const void *base; /* or NULL */
    int32_t base_dtype, how, by_count, normalize, by_row, n_terms;
    int32_t of_values; /* signs are elected before parts are scaled */
    int64_t n, columns;
    const float *weights; /* of AGREE, one for each term */
    float winner, lambda;
    double votes;         /* of VOTE: sum of elected signs */
} merge;

enum { MANY = 60 };

/* Whose entries are not finite: the term's number, k for the base, else -1. */
static int32_t who(const merge *m, const term *terms, int64_t at, int n)
{
    float x[SUB];
    if (m->base && load(m->base, m->base_dtype, at, n, x)) return m->n_terms;
    for (int t = 0; t < m->n_terms; t++)
        if (load(terms[t].data, terms[t].dtype, at, n, x)) return t;
    return -1;
}

/* One term's entries less the base's, picked and scaled; 1 when one that was read is not finite. */
static int part(const merge *m, const term *t, stream *s, int64_t at, int n, const float *base, float *x)
{
    int bad = load(t->data, t->dtype, at, n, x);
    if (base) subtract(x, base, n);
    pick(t, s, at, n, x);
    if (!m->of_values) weigh(t, at, n, m->columns, m->by_row, x);
    return bad;
}

/* Add up the terms; 1 when the sum is not finite, which it is not when any entry read is not. */
static int add_up(const merge *m, const term *terms, stream *streams, int64_t at, int n, const float *base, float *x)
{
    float next[SUB];
    for (int t = 0; t < m->n_terms; t++) {
        if (terms[t].pick == ALL && !terms[t].scales) {
            if (t)
                add_scaled(&terms[t], at, n, base, x);
            else
                load_scaled(&terms[t], at, n, base, x);
            continue;
        }
        part(m, &terms[t], &streams[t], at, n, base, t ? next : x);
        if (t)
            for (int i = 0; i < n; i++) x[i] += next[i];
    }
    uint32_t bad = 0;
    for (int i = 0; i < n; i++) bad |= (bits_of(x[i]) & 0x7f800000u) == 0x7f800000u;
    return bad != 0;
}

/* Elect signs and average what agrees with them; or only count them. */
static void settle(merge *m, const term *terms, float (*parts)[SUB], int64_t at, int n, float *x)
{
    float sign[SUB];
    int k = m->n_terms;
    elect(parts, k, n, m->by_count, sign);
    if (m->how == VOTE) {
        int32_t votes = 0;
        for (int i = 0; i < n; i++) votes += (int32_t)sign[i];
        m->votes += votes;
        return;
    }
    if (m->of_values)
        for (int t = 0; t < k; t++) weigh(&terms[t], at, n, m->columns, m->by_row, parts[t]);
    agree(parts, sign, k, n, m->weights, m->winner, m->normalize, x);
    for (int i = 0; i < n; i++) x[i] *= m->lambda;
}

/* Combine the terms to `out` (but for VOTE), and close the result where there is a `c`. What is not finite is told by
   the term's number (the base is k), else -1. */
int32_t combine(merge *m, const term *terms, float *out, const closing *c)
{
    static __thread float parts[MANY][SUB];
    float base[SUB], before[SUB], x[SUB];
    stream streams[MANY];
    found f = {0};
    int k = m->n_terms, is_base = c && m->base && c->reference == m->base;
    if (k > MANY) return -2;
    for (int t = 0; t < k; t++)
        if (terms[t].pick == DRAWN) streams[t] = begin(terms[t].state, terms[t].step, terms[t].half);
    for (int64_t at = 0; at < m->n; at += SUB) {
        int n = m->n - at < SUB ? (int)(m->n - at) : SUB, bad = 0;
        const float *from = m->base ? base : NULL;
        if (from) bad = load(m->base, m->base_dtype, at, n, base);
        if (m->how == SUM) {
            bad |= add_up(m, terms, streams, at, n, from, x);
        } else {
            for (int t = 0; t < k; t++) bad |= part(m, &terms[t], &streams[t], at, n, from, parts[t]);
        }
        if (bad) {
            int32_t found_bad = who(m, terms, at, n);
            if (found_bad >= 0) return found_bad;
        }
        if (m->how != SUM) settle(m, terms, parts, at, n, x);
        if (m->how == VOTE) continue;
        memcpy(out + at, x, sizeof(float) * (size_t)n);
        if (!c) continue;
        if (!is_base) load(c->reference, c->dtype, at, n, before);
        close_some(c, at, n, m->n, x, is_base ? base : before, &f);
    }
    return -1;
}

/* One model, or its task vector, in float32. 0: the model is not finite; 1: the base; -1: all is well. */
int32_t read_floats(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n, float *out)
{
    float from[SUB];
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(base, base_dtype, at, m, from)) return 1;
        if (load(data, dtype, at, m, out + at)) return 0;
        if (base) subtract(out + at, from, m);
    }
    return -1;
}
