/* One pass over memory for what element-wise merging does: read, subtract the base, pick, scale, combine, add, round.

   Every function does what its twin in engine/ops.py, engine/draws.py or engine/arithmetic.py does with torch, to the
   last bit: float32 arithmetic, products and sums rounded apart (compile with -ffp-contract=off), sums over elements in
   float64 over 16 lanes. Blocks of SUB elements stay in the first-level cache. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define SUB 1024
#define LANES 16
#define TINY 1e-8f

typedef float f4 __attribute__((vector_size(16)));
typedef double d4 __attribute__((vector_size(32)));

enum { F32, BF16 };
enum { ALL, LARGEST, DRAWN };

typedef struct {
    const void *data;
    int32_t dtype;
    int32_t pick;
    float threshold;     /* LARGEST: magnitude of the smallest that stays */
    float scale;
    int64_t ties_end;    /* LARGEST: entries of that magnitude stay before this place */
    uint64_t state[2];   /* DRAWN: of the generator, low half first, at the word of the first entry */
    uint64_t step[2];
    uint32_t half;       /* DRAWN: 1 when the first entry takes the upper half of its word */
    uint32_t stays_below;
    const float *scales; /* of columns or rows, or NULL */
} term;

/* Numbers of SUB entries at most, in float32; 1 when one of them is not finite. */
static int load(const void *data, int dtype, int64_t at, int n, float *out)
{
    uint32_t *bits = (uint32_t *)out;
    uint32_t bad = 0;
    if (dtype == BF16) {
        const uint16_t *x = (const uint16_t *)data + at;
        for (int i = 0; i < n; i++) {
            uint32_t w = (uint32_t)x[i] << 16;
            bits[i] = w;
            bad |= (w & 0x7f800000u) == 0x7f800000u;
        }
    } else {
        const uint32_t *x = (const uint32_t *)data + at;
        for (int i = 0; i < n; i++) {
            uint32_t w = x[i];
            bits[i] = w;
            bad |= (w & 0x7f800000u) == 0x7f800000u;
        }
    }
    return bad != 0;
}

/* Numbers minus a base, times a scale: what a term is when nothing is picked. */
static int load_scaled(const void *data, int dtype, int64_t at, int n, const float *base, float scale, float *out)
{
    uint32_t bad = 0;
    if (dtype != BF16 || !base) {
        bad = (uint32_t)load(data, dtype, at, n, out);
        if (base)
            for (int i = 0; i < n; i++) out[i] = (out[i] - base[i]) * scale;
        else
            for (int i = 0; i < n; i++) out[i] *= scale;
        return bad != 0;
    }
    const uint16_t *x = (const uint16_t *)data + at;
    for (int i = 0; i < n; i++) {
        union {
            uint32_t bits;
            float value;
        } w = {(uint32_t)x[i] << 16};
        bad |= (w.bits & 0x7f800000u) == 0x7f800000u;
        out[i] = (w.value - base[i]) * scale;
    }
    return bad != 0;
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

static void subtract(float *x, const float *base, int n)
{
    for (int i = 0; i < n; i++) x[i] -= base[i];
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

/* How k models are combined: what is not finite is told by the term's number (the base is k), else -1. */
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

int32_t combine(merge *m, const term *terms, float *out)
{
    enum { MOST = 64 };
    static __thread float parts[MOST][SUB];
    float base[SUB];
    stream streams[MOST];
    int k = m->n_terms;
    if (k > MOST) return -2;
    for (int t = 0; t < k; t++)
        if (terms[t].pick == DRAWN) streams[t] = begin(terms[t].state, terms[t].step, terms[t].half);
    for (int64_t at = 0; at < m->n; at += SUB) {
        int n = m->n - at < SUB ? (int)(m->n - at) : SUB;
        if (m->base && load(m->base, m->base_dtype, at, n, base)) return k;
        for (int t = 0; t < k; t++) {
            float *x = parts[t];
            if (terms[t].pick == ALL && !terms[t].scales && !m->of_values) {
                const float *from = m->base ? base : NULL;
                if (load_scaled(terms[t].data, terms[t].dtype, at, n, from, terms[t].scale, x)) return t;
                continue;
            }
            if (load(terms[t].data, terms[t].dtype, at, n, x)) return t;
            if (m->base) subtract(x, base, n);
            pick(&terms[t], &streams[t], at, n, x);
            if (!m->of_values) weigh(&terms[t], at, n, m->columns, m->by_row, x);
        }
        if (m->how == SUM) {
            float *total = parts[0];
            for (int t = 1; t < k; t++)
                for (int i = 0; i < n; i++) total[i] += parts[t][i];
            memcpy(out + at, total, sizeof(float) * (size_t)n);
        } else if (m->how == AGREE) {
            float sign[SUB];
            elect(parts, k, n, m->by_count, sign);
            if (m->of_values)
                for (int t = 0; t < k; t++) weigh(&terms[t], at, n, m->columns, m->by_row, parts[t]);
            agree(parts, sign, k, n, m->weights, m->winner, m->normalize, out + at);
            for (int i = 0; i < n; i++) out[at + i] *= m->lambda;
        } else {
            float sign[SUB];
            int32_t votes = 0;
            elect(parts, k, n, m->by_count, sign);
            for (int i = 0; i < n; i++) votes += (int32_t)sign[i];
            m->votes += votes;
        }
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

typedef struct {
    double sum_sq, base_sum_sq, max_abs;
    int64_t n_changed, n_lost;
} change;

static inline __attribute__((always_inline)) d4 wide(const float *x)
{
    f4 v;
    memcpy(&v, x, sizeof v);
    return __builtin_convertvector(v, d4);
}

typedef struct {
    d4 part[LANES / 4];
} lanes;

static double folded(const lanes *sums)
{
    double each[LANES];
    memcpy(each, sums, sizeof each);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) each[i] += each[i + half];
    return each[0];
}

/* Σ a b, over 16 lanes, of n entries; n is a multiple of LANES, filled up with zeros. */
static void add_products(const float *a, const float *b, int n, lanes *sums)
{
    lanes s = *sums;
    for (int i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES / 4; j++) s.part[j] += wide(a + i + 4 * j) * wide(b + i + 4 * j);
    *sums = s;
}

static int filled(float *x, int n)
{
    for (; n % LANES; n++) x[n] = 0.0f;
    return n;
}

/* Add the reference, round, and sum up what that changed. Sums begin anew every `block` entries: stats[entry / block]. */
void finish(const float *result, const void *reference, int32_t dtype, int32_t add, void *out, int32_t out_dtype,
            int64_t n, int64_t block, change *stats)
{
    float before[SUB], after[SUB], delta[SUB];
    lanes squares = {0}, base_squares = {0};
    change *found = stats;
    uint32_t most = 0;
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        load(reference, dtype, at, m, before);
        const float *x = result + at;
        if (add) {
            for (int i = 0; i < m; i++) after[i] = x[i] + before[i];
            x = after;
        }
        int32_t changed = 0, lost = 0;
        if (out_dtype == BF16) {
            uint16_t *to = (uint16_t *)out + at;
            const uint32_t *bits = (const uint32_t *)x;
            for (int i = 0; i < m; i++) {
                uint32_t w = bits[i];
                uint32_t near = (w + 0x7fffu + ((w >> 16) & 1u)) >> 16;
                near = (w & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : near;
                to[i] = (uint16_t)near;
                ((uint32_t *)delta)[i] = near << 16;
            }
            for (int i = 0; i < m; i++) {
                lost += (x[i] != before[i]) & (delta[i] == before[i]);
                changed += delta[i] != before[i];
            }
        } else {
            memcpy((float *)out + at, x, sizeof(float) * (size_t)m);
            memcpy(delta, x, sizeof(float) * (size_t)m);
            for (int i = 0; i < m; i++) changed += delta[i] != before[i];
        }
        for (int i = 0; i < m; i++) {
            delta[i] -= before[i];
            uint32_t size = ((const uint32_t *)delta)[i] & 0x7fffffffu;
            most = size > most ? size : most;
        }
        int whole = filled(delta, m);
        filled(before, m);
        add_products(delta, delta, whole, &squares);
        add_products(before, before, whole, &base_squares);
        found->n_changed += changed;
        found->n_lost += lost;
        if ((at + m) % block == 0 || at + m == n) {
            float largest;
            memcpy(&largest, &most, sizeof largest);
            found->sum_sq = folded(&squares);
            found->base_sum_sq = folded(&base_squares);
            found->max_abs = largest;
            memset(&squares, 0, sizeof squares);
            memset(&base_squares, 0, sizeof base_squares);
            most = 0;
            found++;
        }
    }
}

/* Dot products of k models (and the base, number k, when it is there), of each block: out[block][pair]. */
int32_t products(const term *terms, int32_t k, const void *base, int32_t base_dtype, int64_t n, int64_t block,
                 const int32_t *pairs, int32_t n_pairs, double *out)
{
    enum { MOST = 64, PAIRS = MOST * (MOST + 1) / 2 }; /* each two, and each with itself */
    static __thread float parts[MOST][SUB];
    static __thread lanes sums[PAIRS];
    if (k >= MOST || n_pairs > PAIRS) return -2;
    for (int64_t start = 0; start < n; start += block) {
        int64_t end = start + block < n ? start + block : n;
        memset(sums, 0, sizeof(lanes) * (size_t)n_pairs);
        for (int64_t at = start; at < end; at += SUB) {
            int m = end - at < SUB ? (int)(end - at) : SUB;
            if (base && load(base, base_dtype, at, m, parts[k])) return k;
            for (int t = 0; t < k; t++) {
                if (load(terms[t].data, terms[t].dtype, at, m, parts[t])) return t;
                if (base) subtract(parts[t], parts[k], m);
            }
            int whole = m;
            for (int t = 0; t < k; t++) whole = filled(parts[t], m);
            if (base) filled(parts[k], m);
            for (int p = 0; p < n_pairs; p++)
                add_products(parts[pairs[2 * p]], parts[pairs[2 * p + 1]], whole, &sums[p]);
        }
        for (int p = 0; p < n_pairs; p++) *out++ = folded(&sums[p]);
    }
    return -1;
}

/* Dot products of columns, row by row: out[pair][column]. */
int32_t column_products(const term *terms, int32_t k, const void *base, int32_t base_dtype, int64_t rows,
                        int64_t columns, const int32_t *pairs, int32_t n_pairs, double *out)
{
    enum { MOST = 64 };
    static __thread float parts[MOST][SUB];
    if (k >= MOST) return -2;
    memset(out, 0, sizeof(double) * (size_t)(n_pairs * columns));
    for (int64_t left = 0; left < columns; left += SUB) {
        int m = columns - left < SUB ? (int)(columns - left) : SUB;
        for (int64_t row = 0; row < rows; row++) {
            int64_t at = row * columns + left;
            if (base && load(base, base_dtype, at, m, parts[k])) return k;
            for (int t = 0; t < k; t++) {
                if (load(terms[t].data, terms[t].dtype, at, m, parts[t])) return t;
                if (base) subtract(parts[t], parts[k], m);
            }
            for (int p = 0; p < n_pairs; p++) {
                const float *a = parts[pairs[2 * p]], *b = parts[pairs[2 * p + 1]];
                double *total = out + p * columns + left;
                for (int i = 0; i < m; i++) total[i] += (double)a[i] * (double)b[i];
            }
        }
    }
    return -1;
}

/* How often each upper half of the magnitudes' bits occurs, or each lower half of those with this upper one. */
int32_t count_magnitudes(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n,
                         int32_t upper, int64_t *counts)
{
    float x[SUB], from[SUB];
    const uint32_t *bits = (const uint32_t *)x;
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(base, base_dtype, at, m, from)) return 1;
        if (load(data, dtype, at, m, x)) return 0;
        if (base) subtract(x, from, m);
        if (upper < 0)
            for (int i = 0; i < m; i++) counts[(bits[i] & 0x7fffffffu) >> 16]++;
        else
            for (int i = 0; i < m; i++)
                if ((bits[i] & 0x7fffffffu) >> 16 == (uint32_t)upper) counts[bits[i] & 0xffffu]++;
    }
    return -1;
}

/* Counts of the magnitudes below `low`, and of each of the `width` keys from it on: counts[0], counts[1 + key - low].
   Keys are the bits of the magnitude; those beyond are not counted. */
int32_t count_near(const void *data, int32_t dtype, const void *base, int32_t base_dtype, int64_t n, uint32_t low,
                   uint32_t width, int64_t *counts)
{
    float x[SUB], from[SUB];
    uint16_t near[SUB];
    const uint32_t *bits = (const uint32_t *)x;
    for (int64_t at = 0; at < n; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        if (base && load(base, base_dtype, at, m, from)) return 1;
        if (load(data, dtype, at, m, x)) return 0;
        if (base) subtract(x, from, m);
        int32_t below = 0;
        for (int i = 0; i < m; i++) below += (bits[i] & 0x7fffffffu) < low;
        counts[0] += below;
        int found = 0;
        for (int i = 0; i < m; i++) {
            near[found] = (uint16_t)i;
            found += (bits[i] & 0x7fffffffu) - low < width;
        }
        for (int i = 0; i < found; i++) counts[1 + (bits[near[i]] & 0x7fffffffu) - low]++;
    }
    return -1;
}
