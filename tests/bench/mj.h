// Tiny JSON scanner: finds raw token ranges of keys in an object. No validation beyond structure.
#ifndef MJ_H
#define MJ_H
#include <string.h>
#include <stddef.h>
typedef struct {
  const char *p;
  size_t n;
} sv;
static inline const char *mj_ws(const char *p, const char *e) {
  while (p < e && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  return p;
}
static inline const char *mj_str(const char *p,
                                 const char *e) { // p at opening quote; returns after closing quote or NULL
  p++;
  for (;;) {
    const char *q = memchr(p, '"', e - p);
    if (!q) return NULL;
    const char *b = q;
    int k = 0;
    while (b > p && b[-1] == '\\') {
      b--;
      k++;
    }
    // count of backslashes directly before q since p: p itself may be after an escaped quote, fine as we restart after
    // it
    if (!(k & 1)) return q + 1;
    p = q + 1;
  }
}
static inline const char *mj_val(const char *p, const char *e) {
  p = mj_ws(p, e);
  if (p >= e) return NULL;
  if (*p == '"') return mj_str(p, e);
  if (*p == '{' || *p == '[') {
    int d = 0;
    while (p < e) {
      char c = *p;
      if (c == '"') {
        p = mj_str(p, e);
        if (!p) return NULL;
        continue;
      }
      if (c == '{' || c == '[')
        d++;
      else if (c == '}' || c == ']') {
        d--;
        if (!d) return p + 1;
      }
      p++;
    }
    return NULL;
  }
  while (p < e && *p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\n' && *p != '\r' && *p != '\t') p++;
  return p;
}
// get raw value of key in object text s; returns {NULL,0} if absent
static inline sv mj_get(sv s, const char *key) {
  sv none = {NULL, 0};
  if (!s.p) return none;
  size_t kl = strlen(key);
  const char *p = s.p, *e = s.p + s.n;
  p = mj_ws(p, e);
  if (p >= e || *p != '{') return none;
  p++;
  for (;;) {
    p = mj_ws(p, e);
    if (p >= e || *p == '}') return none;
    if (*p == ',') {
      p++;
      continue;
    }
    if (*p != '"') return none;
    const char *k = p + 1;
    const char *q = mj_str(p, e);
    if (!q) return none;
    size_t n = q - 1 - k;
    p = mj_ws(q, e);
    if (p >= e || *p != ':') return none;
    p = mj_ws(p + 1, e);
    const char *v = p;
    q = mj_val(p, e);
    if (!q) return none;
    if (n == kl && !memcmp(k, key, kl)) {
      sv r = {v, (size_t)(q - v)};
      return r;
    }
    p = q;
  }
}
static inline int sv_is(sv s, const char *lit) {
  size_t n = strlen(lit);
  return s.n == n + 2 && s.p[0] == '"' && !memcmp(s.p + 1, lit, n);
}
static inline sv mj_elem0(sv s) {
  sv none = {NULL, 0};
  if (!s.p) return none;
  const char *p = mj_ws(s.p, s.p + s.n), *e = s.p + s.n;
  if (p >= e || *p != '[') return none;
  p = mj_ws(p + 1, e);
  if (p >= e || *p == ']') return none;
  const char *q = mj_val(p, e);
  if (!q) return none;
  sv r = {p, (size_t)(q - p)};
  return r;
}
#endif
