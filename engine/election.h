/* How k models elect the sign of each entry, and what is made of those that agree with it. */
#pragma once
#include "merges.h"

#define TINY 1e-8f /* a sum of weights that is smaller counts as 1 */

/* What elects the signs of eight entries. */
static inline __attribute__((always_inline)) f8 voices(int k, int by_count, float (*parts)[SUB], int i)
{
    f8 total = all(0.0f);
    for (int t = 0; t < k; t++) total += by_count ? sign_of(eight(parts[t] + i)) : eight(parts[t] + i);
    return total;
}

static inline __attribute__((always_inline)) void vote_as(merge *m, int k, int by_count, float (*parts)[SUB], int n)
{
    i8 votes = {0};
    for (int i = 0; i < n; i += 8) {
        f8 voice = voices(k, by_count, parts, i);
        votes += (voice < 0) - (voice > 0);
    }
    for (int i = 0; i < 8; i++) m->votes += votes[i];
}

/* Add the signs that entries elect to the votes. */
static inline void vote(merge *m, float (*parts)[SUB], int n)
{
    int k = m->n_terms;
    if (!m->by_count && k == 2)
        vote_as(m, 2, 0, parts, n);
    else if (!m->by_count && k == 3)
        vote_as(m, 3, 0, parts, n);
    else
        vote_as(m, k, m->by_count, parts, n);
}

/* What k terms' parts are scaled with and weigh, eight times each, and how they are combined. */
typedef struct {
    f8 scales[MANY], weights[MANY], winner, lambda;
} shares;

/* Elect signs and average what agrees with them. */
static inline __attribute__((always_inline)) void settle_as(const shares *s, int k, int by_count, int of_values,
                                                            int normalize, float (*parts)[SUB], int n,
                                                            float *restrict out)
{
    for (int i = 0; i < n; i += 8) {
        f8 voice = voices(k, by_count, parts, i), total = all(0.0f), divisor = all(0.0f);
        i8 up = voice > 0, down = voice < 0;
        f8 sign = (f8)((up & (i8)all(1.0f)) | (down & (i8)all(-1.0f)) | (~(up | down) & (i8)s->winner));
        for (int t = 0; t < k; t++) {
            f8 x = eight(parts[t] + i);
            if (of_values) x *= s->scales[t];
            f8 agreeing = x * sign;
            i8 agrees = agreeing > 0;
            total += where(agrees, agreeing);
            divisor += where(agrees, s->weights[t]);
        }
        if (normalize) {
            f8 size = (f8)((i8)divisor & 0x7fffffff);
            total /= divisor + where(size < TINY, all(1.0f));
        }
        total = total * sign * s->lambda;
        memcpy(out + i, &total, sizeof total);
    }
}

static inline void settle(const merge *m, const term *terms, float (*parts)[SUB], int n, float *out)
{
    shares s = {.winner = all(m->winner), .lambda = all(m->lambda)};
    int k = m->n_terms, common = !m->by_count && !m->of_values && m->normalize;
    for (int t = 0; t < k; t++) {
        s.scales[t] = all(terms[t].scale);
        s.weights[t] = all(m->weights[t]);
    }
    if (common && k == 2)
        settle_as(&s, 2, 0, 0, 1, parts, n, out);
    else if (common && k == 3)
        settle_as(&s, 3, 0, 0, 1, parts, n, out);
    else if (common)
        settle_as(&s, k, 0, 0, 1, parts, n, out);
    else
        settle_as(&s, k, m->by_count, m->of_values, m->normalize, parts, n, out);
}
