// What stands between a Transformer block's matrix products, forward and backward, for CPUs.
//
// Each function is one pass over memory where torch takes several. Arrays are float32, row after
// row without gaps. Loops over rows or heads are shared by `threads` OpenMP threads in fixed
// parts, and sums over rows are taken part by part, so that equal threads give equal bits.
// Without OpenMP everything is computed by one thread.
//
// A NaN that comes in goes out: no flag promises the compiler that there is none.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

#define INLINE static inline __attribute__((always_inline))

// first row of the calling thread's part
INLINE long part(long rows, int thread) { return rows * thread / omp_get_num_threads(); }

// vectors of floats, as the machine has them -----------------------------------------------------

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));  // in memory

INLINE long padded(long n) { return (n + LANES - 1) / LANES * LANES; }
INLINE vec splat(float x) { return x - (vec){0}; }

// the first n numbers from p on, then 0
INLINE vec load(const float *p, long n) {
    if (n >= LANES) return *(const loose *)p;
    vec x = {0};
    memcpy(&x, p, n * sizeof(float));
    return x;
}

INLINE void store(float *p, long n, vec x) {
    if (n >= LANES)
        *(loose *)p = x;
    else
        memcpy(p, &x, n * sizeof(float));
}

INLINE vec where(ints condition, vec yes, vec no) {
    return (vec)((condition & (ints)yes) | (~condition & (ints)no));
}

// exp(x) for x <= 0, to 2 units in the last place; 1e-38 far below. Coefficients of Cephes' expf.
INLINE vec exp_negative(vec x) {
    x = where(x < splat(-87.0f), splat(-87.0f), x);
    ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, ints);  // nearest, since x <= 0
    vec whole = __builtin_convertvector(n, vec);
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;  // ln 2 in two parts
    vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vec)((n + 127) << 23);
}

// totals[c] = sum over threads of partial[thread][c]
static void add_up(const float *partial, int threads, long width, float *totals) {
    for (long c = 0; c < width; c++) totals[c] = 0;
    for (int k = 0; k < threads; k++)
        for (long c = 0; c < width; c++) totals[c] += partial[k * width + c];
}

// layer norm -----------------------------------------------------------------------------------

// One row: out = (x - mean) / std * gamma + beta; std has eps under its root.
INLINE void normalise(const float *x, long width, float eps, const float *gamma,
                      const float *beta, float *out, float *mean, float *rstd) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (long c = 0; c < width; c++) sum += x[c];
    float m = sum / width;
#pragma omp simd reduction(+ : squares)
    for (long c = 0; c < width; c++) squares += (x[c] - m) * (x[c] - m);
    float r = 1.0f / sqrtf(squares / width + eps);
#pragma omp simd
    for (long c = 0; c < width; c++) out[c] = (x[c] - m) * r * gamma[c] + beta[c];
    *mean = m, *rstd = r;
}

void layer_norm(int threads, long rows, long width, float eps, const float *x,
                const float *gamma, const float *beta, float *out, float *mean, float *rstd) {
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < rows; i++)
        normalise(x + i * width, width, eps, gamma, beta, out + i * width, mean + i, rstd + i);
}

// sum = x + y + bias, and its layer norm; sum may be y.
void add_layer_norm(int threads, long rows, long width, float eps, const float *x,
                    const float *y, const float *bias, const float *gamma, const float *beta,
                    float *sum, float *out, float *mean, float *rstd) {
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < rows; i++) {
        const float *xi = x + i * width, *yi = y + i * width;
        float *si = sum + i * width;
#pragma omp simd
        for (long c = 0; c < width; c++) si[c] = xi[c] + yi[c] + bias[c];
        normalise(si, width, eps, gamma, beta, out + i * width, mean + i, rstd + i);
    }
}

// dx = dres + (gradient of the norm's input), and the sums over rows that its weights, and a bias
// that was added to the input, get: dgamma, dbeta, dbias. dx may be dres.
void layer_norm_backward(int threads, long rows, long width, const float *x, const float *mean,
                         const float *rstd, const float *gamma, const float *dout,
                         const float *dres, float *dx, float *dgamma, float *dbeta,
                         float *dbias) {
    float *partial = calloc(3 * threads * width, sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        int k = omp_get_thread_num();
        float *pg = partial + k * width, *pb = pg + threads * width, *px = pb + threads * width;
        for (long i = part(rows, k); i < part(rows, k + 1); i++) {
            const float *xi = x + i * width, *di = dout + i * width, *ri = dres + i * width;
            float *dxi = dx + i * width;
            float m = mean[i], r = rstd[i], along = 0, all = 0;
#pragma omp simd reduction(+ : along, all)
            for (long c = 0; c < width; c++) {
                float g = di[c] * gamma[c], h = (xi[c] - m) * r;
                along += g * h;
                all += g;
            }
            along /= width, all /= width;
#pragma omp simd
            for (long c = 0; c < width; c++) {
                float h = (xi[c] - m) * r;
                float d = ri[c] + (di[c] * gamma[c] - all - h * along) * r;
                dxi[c] = d;
                pg[c] += di[c] * h;
                pb[c] += di[c];
                px[c] += d;
            }
        }
    }
    add_up(partial, threads, width, dgamma);
    add_up(partial + threads * width, threads, width, dbeta);
    add_up(partial + 2 * threads * width, threads, width, dbias);
    free(partial);
}

// feed-forward ---------------------------------------------------------------------------------

// out = gelu(u + bias); u becomes the slope there, for the backward pass.
// erf by Abramowitz and Stegun 7.1.26, to 1.5e-7; its exponential is that of the slope, too.
void gelu(int threads, long rows, long width, float *u, const float *bias, float *out) {
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < rows; i++) {
        float *ui = u + i * width, *oi = out + i * width;
        for (long c = 0; c < width; c += LANES) {
            long n = width - c;
            vec v = load(ui + c, n) + load(bias + c, n);
            ints negative = v < splat(0);
            vec z = where(negative, -v, v) * 0.70710678f;
            vec e = exp_negative(-z * z), t = 1.0f / (1.0f + 0.3275911f * z);
            vec p = 1.061405429f * t - 1.453152027f;
            p = p * t + 1.421413741f;
            p = p * t - 0.284496736f;
            p = p * t + 0.254829592f;
            vec tail = 0.5f * p * t * e;  // of the normal distribution, beyond |v|
            vec below = where(negative, tail, 1.0f - tail);
            store(oi + c, n, v * below);
            store(ui + c, n, below + v * 0.39894228f * e);
        }
    }
}

// du = dout * slope, which may take dout's place; dbias is its sum over rows.
void gelu_backward(int threads, long rows, long width, const float *dout, const float *slope,
                   float *du, float *dbias) {
    float *partial = calloc(threads * width, sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        int k = omp_get_thread_num();
        float *p = partial + k * width;
        for (long i = part(rows, k); i < part(rows, k + 1); i++) {
            const float *di = dout + i * width, *si = slope + i * width;
            float *ui = du + i * width;
#pragma omp simd
            for (long c = 0; c < width; c++) p[c] += ui[c] = di[c] * si[c];
        }
    }
    add_up(partial, threads, width, dbias);
    free(partial);
}

// y becomes x + y + bias.
void add_residual(int threads, long rows, long width, const float *x, const float *bias,
                  float *y) {
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < rows; i++) {
        const float *xi = x + i * width;
        float *yi = y + i * width;
#pragma omp simd
        for (long c = 0; c < width; c++) yi[c] += xi[c] + bias[c];
    }
}

// out = sum of x over its rows
void sum_rows(int threads, long rows, long width, const float *x, float *out) {
    float *partial = calloc(threads * width, sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        int k = omp_get_thread_num();
        float *p = partial + k * width;
        for (long i = part(rows, k); i < part(rows, k + 1); i++)
#pragma omp simd
            for (long c = 0; c < width; c++) p[c] += x[i * width + c];
    }
    add_up(partial, threads, width, out);
    free(partial);
}

// rows that several images share ---------------------------------------------------------------

// out[i] = table[index[i]]
void take_rows(int threads, long rows, long width, const int64_t *index, const float *table,
               float *out) {
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < rows; i++)
        memcpy(out + i * width, table + index[i] * width, width * sizeof(float));
}

// dtable[index[i]] += dout[i]; threads share the columns, so that none meets another.
void take_rows_backward(int threads, long rows, long width, const int64_t *index,
                        const float *dout, float *dtable) {
#pragma omp parallel num_threads(threads)
    {
        int k = omp_get_thread_num();
        long first = part(width, k), end = part(width, k + 1);
        for (long i = 0; i < rows; i++) {
            const float *from = dout + i * width;
            float *to = dtable + index[i] * width;
#pragma omp simd
            for (long c = first; c < end; c++) to[c] += from[c];
        }
    }
}

// attention ------------------------------------------------------------------------------------

// c[rows][vecs * LANES] = a b: a[i][k] stands at a[i * down + k * right], b and c have rows of
// ldb and ldc numbers. `rows` and `vecs` are constants where it is called: c stays in registers.
INLINE void tile(int rows, int vecs, long depth, const float *a, long down, long right,
                 const float *b, long ldb, float *c, long ldc) {
    vec sums[6][3] = {0};
    for (long k = 0; k < depth; k++) {
        vec bk[3];
        for (int j = 0; j < vecs; j++) bk[j] = *(const loose *)(b + k * ldb + j * LANES);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < vecs; j++) sums[i][j] += a[i * down + k * right] * bk[j];
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++) *(loose *)(c + i * ldc + j * LANES) = sums[i][j];
}

// All rows of c, its next `vecs` vectors: as many rows at once as give some twelve sums.
#define ROWS(R, V)                                                                              \
    for (; m - i >= R; i += R)                                                                  \
    tile(R, V, depth, a + i * down, down, right, b, ldb, c + i * ldc, ldc)
#define COLUMNS(V, ...)                                                                         \
    INLINE void columns##V(long m, long depth, const float *a, long down, long right,           \
                           const float *b, long ldb, float *c, long ldc) {                      \
        long i = 0;                                                                             \
        __VA_ARGS__                                                                             \
    }
COLUMNS(3, ROWS(4, 3); ROWS(2, 3); ROWS(1, 3);)
COLUMNS(2, ROWS(6, 2); ROWS(3, 2); ROWS(1, 2);)
COLUMNS(1, ROWS(6, 1); ROWS(3, 1); ROWS(1, 1);)

// c (m x n) = a (m x depth) b (depth x n) for small matrices; n is a multiple of LANES.
static void product(long m, long n, long depth, const float *a, long down, long right,
                    const float *b, long ldb, float *c, long ldc) {
    long left = n / LANES;
    while (left > 0) {
        int vecs = left == 4 || left == 2 ? 2 : left == 1 ? 1 : 3;
        if (vecs == 3) columns3(m, depth, a, down, right, b, ldb, c, ldc);
        if (vecs == 2) columns2(m, depth, a, down, right, b, ldb, c, ldc);
        if (vecs == 1) columns1(m, depth, a, down, right, b, ldb, c, ldc);
        left -= vecs, b += vecs * LANES, c += vecs * LANES;
    }
}

// out[i][0..to) = (x[i][0..e) + bias) * scale for n rows of x that are `stride` apart, then 0
INLINE void pack(long n, long e, const float *x, long stride, const float *bias, float scale,
                 float *out, long to) {
    for (long i = 0; i < n; i++) {
        for (long c = 0; c < e; c++) out[i * to + c] = (x[i * stride + c] + bias[c]) * scale;
        for (long c = e; c < to; c++) out[i * to + c] = 0;
    }
}

// the same, transposed: out[c][i], rows of `to` numbers
INLINE void pack_transposed(long n, long e, const float *x, long stride, const float *bias,
                            float *out, long to) {
    for (long c = 0; c < e; c++) {
        for (long i = 0; i < n; i++) out[c * to + i] = x[i * stride + c] + bias[c];
        for (long i = n; i < to; i++) out[c * to + i] = 0;
    }
}

// Softmax of a row's first n numbers. What it has more, up to whole vectors, then means nothing.
INLINE void softmax(float *row, long n) {
    vec highest = splat(-INFINITY), sums = {0};
    for (long j = n; j < padded(n); j++) row[j] = -INFINITY;
    for (long j = 0; j < n; j += LANES) {
        vec x = load(row + j, LANES);
        highest = where(x > highest, x, highest);
    }
    float most = highest[0], sum = 0;
    for (int k = 1; k < LANES; k++) most = highest[k] > most ? highest[k] : most;
    for (long j = 0; j < n; j += LANES) {
        vec x = exp_negative(load(row + j, LANES) - most);
        store(row + j, LANES, x);
        sums += x;
    }
    for (int k = 0; k < LANES; k++) sum += sums[k];
    float share = 1.0f / sum;
    for (long j = 0; j < n; j += LANES) store(row + j, LANES, load(row + j, LANES) * share);
}

static float *scratch(long numbers) { return aligned_alloc(64, (numbers * 4 + 63) / 64 * 64); }

// How many numbers a row of `weights` has, of which the first t count.
long weights_stride(long t) { return padded(t); }

// Attention of n images of t tokens: queries of all but the first `skip` tokens.
// qkv (n, t, 3, heads, e) without its bias (3, heads, e) -> out (n, t - skip, heads, e), and the
// softmax's weights (n, heads, t - skip, weights_stride(t)).
void attend(int threads, long n, long t, long skip, long heads, long e, const float *qkv,
            const float *bias, float *out, float *weights) {
    long width = heads * e, stride = 3 * width, q = t - skip, tp = padded(t), ep = padded(e);
    float scale = 1.0f / sqrtf((float)e);
#pragma omp parallel num_threads(threads)
    {
        float *queries = scratch(q * ep), *keys = scratch(e * tp), *values = scratch(t * ep);
        float *mixed = scratch(q * ep);
#pragma omp for collapse(2) schedule(static)
        for (long i = 0; i < n; i++)
            for (long h = 0; h < heads; h++) {
                const float *x = qkv + i * t * stride + h * e, *b = bias + h * e;
                float *w = weights + (i * heads + h) * q * tp;
                pack(q, e, x + skip * stride, stride, b, scale, queries, ep);
                pack_transposed(t, e, x + width, stride, b + width, keys, tp);
                pack(t, e, x + 2 * width, stride, b + 2 * width, 1, values, ep);
                product(q, tp, e, queries, ep, 1, keys, tp, w, tp);
                for (long j = 0; j < q; j++) softmax(w + j * tp, t);
                product(q, ep, t, w, tp, 1, values, ep, mixed, ep);
                for (long j = 0; j < q; j++)
                    memcpy(out + (i * q + j) * width + h * e, mixed + j * ep, e * sizeof(float));
            }
        free(queries), free(keys), free(values), free(mixed);
    }
}

// A gradient's rows go to where they belong, and their sum to the bias's.
INLINE void unpack(long n, long e, const float *x, long from, float scale, float *out,
                   long stride, float *dbias) {
    for (long i = 0; i < n; i++)
#pragma omp simd
        for (long c = 0; c < e; c++) dbias[c] += out[i * stride + c] = x[i * from + c] * scale;
}

// dqkv (n, t, 3, heads, e) and dbias (3, heads, e) of dout (n, t - skip, heads, e).
void attend_backward(int threads, long n, long t, long skip, long heads, long e,
                     const float *qkv, const float *bias, const float *weights,
                     const float *dout, float *dqkv, float *dbias) {
    long width = heads * e, stride = 3 * width, q = t - skip, tp = padded(t), ep = padded(e);
    float scale = 1.0f / sqrtf((float)e);
    float *partial = calloc(threads * stride, sizeof(float));
    float *nothing = calloc(e, sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        float *queries = scratch(q * ep), *keys = scratch(t * ep), *values = scratch(e * tp);
        float *dmixed = scratch(q * ep), *dscores = scratch(q * tp), *rows = scratch(t * ep);
        float *sums = partial + omp_get_thread_num() * stride;
#pragma omp for collapse(2) schedule(static)
        for (long i = 0; i < n; i++)
            for (long h = 0; h < heads; h++) {
                const float *x = qkv + i * t * stride + h * e, *b = bias + h * e;
                const float *w = weights + (i * heads + h) * q * tp;
                float *dx = dqkv + i * t * stride + h * e, *db = sums + h * e;
                pack(q, e, x + skip * stride, stride, b, scale, queries, ep);
                pack(t, e, x + width, stride, b + width, 1, keys, ep);
                pack_transposed(t, e, x + 2 * width, stride, b + 2 * width, values, tp);
                pack(q, e, dout + i * q * width + h * e, width, nothing, 1, dmixed, ep);
                product(q, tp, e, dmixed, ep, 1, values, tp, dscores, tp);
                for (long j = 0; j < q; j++) {
                    const float *wj = w + j * tp;
                    float *dj = dscores + j * tp, along = 0;
#pragma omp simd reduction(+ : along)
                    for (long k = 0; k < tp; k++) along += wj[k] * dj[k];
#pragma omp simd
                    for (long k = 0; k < tp; k++) dj[k] = wj[k] * (dj[k] - along);
                }
                product(q, ep, t, dscores, tp, 1, keys, ep, rows, ep);
                for (long j = 0; j < skip; j++) memset(dx + j * stride, 0, e * sizeof(float));
                unpack(q, e, rows, ep, scale, dx + skip * stride, stride, db);
                product(t, ep, q, dscores, 1, tp, queries, ep, rows, ep);
                unpack(t, e, rows, ep, 1, dx + width, stride, db + width);
                product(t, ep, q, w, 1, tp, dmixed, ep, rows, ep);
                unpack(t, e, rows, ep, 1, dx + 2 * width, stride, db + 2 * width);
            }
        free(queries), free(keys), free(values), free(dmixed), free(dscores), free(rows);
    }
    add_up(partial, threads, stride, dbias);
    free(partial), free(nothing);
}
