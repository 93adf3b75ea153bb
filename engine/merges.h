/* What is made of several models' entries, and of the result. */
#pragma once
#include "varied.h"

typedef struct {
    double sum_sq, base_sum_sq, max_abs;
    int64_t n_changed, n_lost;
} change;

/* What becomes of a result: the reference is added if asked to, it is rounded, and what that changed is summed up. Sums
   begin anew every `block` entries, a multiple of SUB: stats[entry / block]. */
typedef struct {
    source reference;
    void *out;
    change *stats;
    int64_t block;
    int32_t out_dtype, add;
} closing;

typedef struct {
    lanes squares, base_squares;
    int32_t most, changed, lost; /* most: bits of a magnitude */
} found;

/* How k models are combined. */
enum { SUM, AGREE, VOTE };

typedef struct {
    source base;
    int32_t has_base, how, by_count, normalize, by_row, n_terms;
    int32_t of_values; /* signs are elected before parts are scaled */
    float winner, lambda;
    int64_t n, columns;
    const float *weights; /* of AGREE, one for each term */
    const varied *among;  /* with of_values: which entries count, or NULL: all */
    double votes;         /* of VOTE: sum of elected signs */
} merge;

enum { MANY = 60 };

/* Combine entries [from, to) of the terms to `out` (but for VOTE, or if it is NULL), and close the result where there is
   a `c`; `from` is a multiple of SUB, and so is `to`, but at the end. Spans in their order share one `f`, zero at first.
   What is not finite is told by the term's number (the base is k), else -1; TOO_MANY or UNREADABLE. */
int32_t combine_span(merge *m, const term *terms, int64_t from, int64_t to, float *out, const closing *c, found *f);
