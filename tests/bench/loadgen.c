// loadgen: closed-loop MCP Streamable HTTP load generator (single thread, epoll).
// Options: see the loop at the head of main(); tests/bench/ratio.py uses -u -c -d -p -j -t -T -M.
// Needs only libc. Own cost 5-7 us CPU a call. Every reply is checked: status 200, the id, the text that was sent.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <unistd.h>
#include <fcntl.h>
#include <errno.h>
#include <signal.h>
#include <time.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include "mj.h"
typedef struct {
  char *p;
  size_t n, cap;
} buf;
static void b_need(buf *b, size_t k) {
  if (b->n + k > b->cap) {
    size_t c = b->cap ? b->cap : 4096;
    while (c < b->n + k) c *= 2;
    b->p = realloc(b->p, c);
    b->cap = c;
  }
}
static void b_add(buf *b, const void *s, size_t n) {
  b_need(b, n);
  memcpy(b->p + b->n, s, n);
  b->n += n;
}
static void b_s(buf *b, const char *s) { b_add(b, s, strlen(s)); }
typedef struct {
  int fd, idx, sess;
  uint64_t seq, t0;
  buf in, out;
  size_t outoff;
  char id[48], text[2048];
  size_t textn;
  int busy;
} conn;
static char *host = "127.0.0.1", *path = "/mcp", *tool = "echo", *bearer, *hdrs[64], *proto = "2025-11-25";
static int port, nh, conc = 16, size = 150, modern, noinit, noverify, idstr, sessions = 1, expect_big, json_out, quiet,
                     lists;
static double dur = 5, warm = 0.5;
static int npid;
static int pids[32];
static char suffix[128];
static int usesuffix, uniq;
static char uniqh[96];
static char **sid;
static uint32_t *lat;
static size_t nlat, caplat;
static uint64_t errs, n_bad, n_http, n_conn, reconn;
static char lasterr[400];
static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static double cpu_of(int pid) {
  char f[64], s[2048];
  sprintf(f, "/proc/%d/stat", pid);
  int fd = open(f, O_RDONLY);
  if (fd < 0) return 0;
  int n = read(fd, s, sizeof s - 1);
  close(fd);
  if (n <= 0) return 0;
  s[n] = 0;
  char *p = strrchr(s, ')');
  unsigned long u = 0, k = 0;
  sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &k);
  // schedstat of all threads gives ns precision
  char d[64];
  sprintf(d, "/proc/%d/task", pid);
  double tot = 0;
  char cmd[128];
  (void)cmd;
  extern double task_ns(const char *);
  tot = task_ns(d);
  return tot > 0 ? tot : (u + k) / (double)sysconf(_SC_CLK_TCK);
}
#include <dirent.h>
double task_ns(const char *d) {
  DIR *D = opendir(d);
  if (!D) return 0;
  struct dirent *e;
  double t = 0;
  while ((e = readdir(D))) {
    if (e->d_name[0] == '.') continue;
    char f[400], s[128];
    snprintf(f, sizeof f, "%s/%s/schedstat", d, e->d_name);
    int fd = open(f, O_RDONLY);
    if (fd < 0) continue;
    int n = read(fd, s, 127);
    close(fd);
    if (n > 0) {
      s[n] = 0;
      t += strtoull(s, NULL, 10) / 1e9;
    }
  }
  closedir(D);
  return t;
}
static double cpu_all(void) {
  double t = 0;
  for (int i = 0; i < npid; i++) t += cpu_of(pids[i]);
  return t;
}
static int dial(int nb) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &a.sin_addr);
  if (connect(fd, (void *)&a, sizeof a)) {
    close(fd);
    return -1;
  }
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (nb) fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}
static sv hdr(const char *h, const char *e, const char *name) {
  size_t nl = strlen(name);
  while (h < e) {
    const char *l = memmem(h, e - h, "\r\n", 2);
    if (!l) l = e;
    if ((size_t)(l - h) > nl && h[nl] == ':' && !strncasecmp(h, name, nl)) {
      const char *v = h + nl + 1;
      while (v < l && *v == ' ') v++;
      sv r = {v, (size_t)(l - v)};
      return r;
    }
    h = l + 2;
  }
  sv n = {NULL, 0};
  return n;
}
static void req_head(buf *o, size_t bl, const char *s, const char *meth, const char *name, int isinit) {
  char t[1024];
  int k = sprintf(t,
                  "POST %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: application/json, text/event-stream\r\nContent-Type: "
                  "application/json\r\nUser-Agent: mcp-loadgen/1\r\nContent-Length: %zu\r\n",
                  path, host, port, bl);
  b_add(o, t, k);
  if (bearer) {
    b_s(o, "Authorization: Bearer ");
    b_s(o, bearer);
    b_s(o, "\r\n");
  }
  if (s) {
    b_s(o, "Mcp-Session-Id: ");
    b_s(o, s);
    b_s(o, "\r\n");
  }
  if (!isinit) {
    b_s(o, "MCP-Protocol-Version: ");
    b_s(o, modern ? "2026-07-28" : proto);
    b_s(o, "\r\n");
  }
  if (modern) {
    b_s(o, "Mcp-Method: ");
    b_s(o, meth);
    b_s(o, "\r\n");
    if (name) {
      b_s(o, "Mcp-Name: ");
      b_s(o, name);
      b_s(o, "\r\n");
    }
  }
  if (uniqh[0]) {
    b_s(o, uniqh);
    b_s(o, "\r\n");
  }
  for (int i = 0; i < nh; i++) {
    b_s(o, hdrs[i]);
    b_s(o, "\r\n");
  }
  b_s(o, "\r\n");
}
// try to take one whole reply from c->in. returns 0 incomplete, 1 complete, -1 broken. body decoded into B; *used;
// status; sse
typedef struct {
  int status, sse, close;
  sv body;
  size_t used;
  sv sid;
} rep;
static buf B;
static int take(buf *in, int eof, rep *r, sv want) {
  char *p = in->p;
  size_t n = in->n;
  memset(r, 0, sizeof *r);
  if (n < 12) return 0;
  char *he = memmem(p, n, "\r\n\r\n", 4);
  if (!he) return 0;
  r->status = atoi(p + 9);
  char *hs = strchr(p, '\n') + 1;
  char *b = he + 4;
  sv cl = hdr(hs, he + 2, "content-length"), te = hdr(hs, he + 2, "transfer-encoding"),
     ct = hdr(hs, he + 2, "content-type"), co = hdr(hs, he + 2, "connection");
  r->sid = hdr(hs, he + 2, "mcp-session-id");
  r->sse = ct.p && ct.n >= 17 && !strncasecmp(ct.p, "text/event-stream", 17);
  r->close = co.p && !strncasecmp(co.p, "close", 5);
  if (te.p) {
    B.n = 0;
    char *q = b, *e = p + n;
    for (;;) {
      char *l = memmem(q, e - q, "\r\n", 2);
      if (!l) return 0;
      size_t k = strtoul(q, NULL, 16);
      q = l + 2;
      if ((size_t)(e - q) < k + 2) return 0;
      if (!k) {
        q += 2;
        break;
      }
      b_add(&B, q, k);
      q += k + 2;
    }
    r->used = q - p;
    r->body.p = B.p;
    r->body.n = B.n;
    return 1;
  }
  if (cl.p) {
    size_t k = strtoul(cl.p, NULL, 10);
    if ((size_t)(p + n - b) < k) return 0;
    r->used = b + k - p;
    r->body.p = b;
    r->body.n = k;
    return 1;
  }
  if (r->status == 202 || r->status == 204) {
    r->used = b - p;
    return 1;
  }
  if (eof) {
    r->used = n;
    r->body.p = b;
    r->body.n = p + n - b;
    r->close = 1;
    return 1;
  }
  return 0;
}
// find the JSON message in reply whose id equals want (raw). For SSE scan events.
static sv message(rep *r, sv want) {
  sv none = {NULL, 0};
  if (!r->sse) {
    sv id = mj_get(r->body, "id");
    if (!want.p || (id.n == want.n && !memcmp(id.p, want.p, want.n))) return r->body;
    return none;
  }
  const char *p = r->body.p, *e = p + r->body.n;
  while (p < e) {
    const char *l = memchr(p, '\n', e - p);
    if (!l) l = e;
    size_t n = l - p;
    if (n && p[n - 1] == '\r') n--;
    if (n > 5 && !memcmp(p, "data:", 5)) {
      const char *d = p + 5;
      while (d < p + n && *d == ' ') d++;
      sv m = {d, (size_t)(p + n - d)};
      sv id = mj_get(m, "id");
      if (id.p && (!want.p || (id.n == want.n && !memcmp(id.p, want.p, want.n))) &&
          (mj_get(m, "result").p || mj_get(m, "error").p))
        return m;
    }
    p = l + 1;
  }
  return none;
}
static void fail(const char *w, sv b) {
  snprintf(lasterr, sizeof lasterr, "%s: %.*s", w, (int)(b.n > 250 ? 250 : b.n), b.p ? b.p : "");
}
// one blocking exchange on a fresh connection
static int exchange(const char *s, const char *meth, const char *name, const char *body, int isinit, rep *r, buf *in,
                    sv want) {
  int fd = dial(0);
  if (fd < 0) {
    fprintf(stderr, "connect failed\n");
    return -1;
  }
  struct timeval tv = {15, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  buf o = {0};
  req_head(&o, strlen(body), s, meth, name, isinit);
  b_s(&o, body);
  size_t off = 0;
  while (off < o.n) {
    ssize_t k = write(fd, o.p + off, o.n - off);
    if (k <= 0) break;
    off += k;
  }
  free(o.p);
  in->n = 0;
  int rc;
  for (;;) {
    b_need(in, 65536 + 1);
    ssize_t k = read(fd, in->p + in->n, 65536);
    if (k <= 0) {
      in->p[in->n] = 0;
      rc = take(in, 1, r, want);
      break;
    }
    in->n += k;
    in->p[in->n] = 0;
    rc = take(in, 0, r, want);
    if (rc) break;
  }
  close(fd);
  return rc == 1 ? 0 : -1;
}
static char toolbuf[256];
static int setup(void) {
  sid = calloc(sessions, sizeof *sid);
  for (int i = 0; i < sessions; i++) {
    static buf in;
    rep r;
    char body[1024];
    if (modern || noinit) {
      sid[i] = NULL;
    } else {
      sprintf(body,
              "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"%s\","
              "\"capabilities\":{},\"clientInfo\":{\"name\":\"loadgen\",\"version\":\"1\"}}}",
              proto);
      sv w = {"0", 1};
      if (exchange(NULL, "initialize", NULL, body, 1, &r, &in, w) || r.status != 200) {
        fprintf(stderr, "initialize failed: status %d body %.*s\n", r.status, (int)(r.body.n > 300 ? 300 : r.body.n),
                r.body.p ? r.body.p : "");
        return 1;
      }
      sv m = message(&r, w);
      sv res = mj_get(m, "result");
      if (!res.p) {
        fprintf(stderr, "initialize: no result: %.*s\n", (int)(r.body.n > 300 ? 300 : r.body.n), r.body.p);
        return 1;
      }
      sv pv = mj_get(res, "protocolVersion");
      if (pv.p && pv.n < 32 && pv.p[0] == '"') {
        proto = strndup(pv.p + 1, pv.n - 2);
      }
      if (r.sid.p) sid[i] = strndup(r.sid.p, r.sid.n);
      sv nw = {NULL, 0};
      if (exchange(sid[i], "notifications/initialized", NULL,
                   "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", 0, &r, &in, nw) ||
          (r.status != 202 && r.status != 200 && r.status != 204))
        fprintf(stderr, "warning: initialized status %d\n", r.status);
    }
    if (i == 0 && (usesuffix || lists)) {
      sv w = {"1", 1};
      const char *b = modern ? "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
                               "list\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/"
                               "protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{}}}}"
                             : "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{}}";
      if (exchange(sid[i], "tools/list", NULL, b, 0, &r, &in, w)) {
        fprintf(stderr, "tools/list failed status %d\n", r.status);
        return 1;
      }
      sv m = message(&r, w);
      if (lists) {
        printf("%.*s\n", (int)m.n, m.p);
      }
      sv res = mj_get(m, "result"), tl = mj_get(res, "tools");
      if (usesuffix) {
        const char *p = tl.p ? tl.p + 1 : NULL, *e = tl.p ? tl.p + tl.n : NULL;
        int ok = 0;
        while (p && p < e) {
          p = mj_ws(p, e);
          if (p >= e || *p == ']') break;
          if (*p == ',') {
            p++;
            continue;
          }
          const char *q = mj_val(p, e);
          if (!q) break;
          sv t = {p, (size_t)(q - p)};
          sv nm = mj_get(t, "name");
          size_t sl = strlen(suffix);
          if (nm.p && nm.n - 2 >= sl && !memcmp(nm.p + nm.n - 1 - sl, suffix, sl)) {
            snprintf(toolbuf, sizeof toolbuf, "%.*s", (int)nm.n - 2, nm.p + 1);
            tool = toolbuf;
            ok = 1;
            break;
          }
          p = q;
        }
        if (!ok) {
          fprintf(stderr, "no tool with suffix %s in %.*s\n", suffix, (int)(m.n > 600 ? 600 : m.n),
                  m.p ? m.p : "(none)");
          return 1;
        }
      }
    }
  }
  return 0;
}
static int ep;
static buf Q;
static void start(conn *c) {
  c->seq++;
  if (idstr)
    snprintf(c->id, sizeof c->id, "\"c%d-%llu\"", c->idx, (unsigned long long)c->seq);
  else
    snprintf(c->id, sizeof c->id, "%llu", (unsigned long long)(c->seq * 1000 + c->idx));
  int k = snprintf(c->text, sizeof c->text, "conn %d seq %llu ", c->idx, (unsigned long long)c->seq);
  while (k < size && k < 2000) {
    c->text[k] = 'a' + (k % 26);
    k++;
  }
  c->text[k] = 0;
  c->textn = k;
  Q.n = 0;
  b_s(&Q, "{\"jsonrpc\":\"2.0\",\"id\":");
  b_s(&Q, c->id);
  b_s(&Q, ",\"method\":\"tools/call\",\"params\":{\"name\":\"");
  b_s(&Q, tool);
  b_s(&Q, "\",\"arguments\":{\"text\":\"");
  b_s(&Q, c->text);
  b_s(&Q, "\"}");
  if (modern)
    b_s(&Q, ",\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/"
            "clientInfo\":{\"name\":\"loadgen\",\"version\":\"1\"},\"io.modelcontextprotocol/clientCapabilities\":{}}");
  b_s(&Q, "}}");
  if (uniq)
    snprintf(uniqh, sizeof uniqh, "traceparent: 00-%016llx%016llx-%016llx-01", (unsigned long long)c->idx,
             (unsigned long long)c->seq, (unsigned long long)c->t0);
  c->out.n = c->outoff = 0;
  req_head(&c->out, Q.n, sid[c->sess], "tools/call", tool, 0);
  b_add(&c->out, Q.p, Q.n);
  c->in.n = 0;
  c->t0 = now_ns();
  c->busy = 1;
}
static void pump(conn *c) {
  while (c->outoff < c->out.n) {
    ssize_t k = send(c->fd, c->out.p + c->outoff, c->out.n - c->outoff, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno == EAGAIN) {
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
      }
      return;
    }
    c->outoff += k;
  }
}
static void redial(conn *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = dial(1);
  if (c->fd < 0) {
    n_conn++;
    return;
  }
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}
static int verify(conn *c, rep *r) {
  if (r->status != 200) {
    n_http++;
    fail("http status", r->body);
    return 0;
  }
  if (noverify) return 1;
  sv want = {c->id, strlen(c->id)};
  sv m = message(r, want);
  if (!m.p) {
    n_bad++;
    fail("id not found", r->body);
    return 0;
  }
  sv res = mj_get(m, "result");
  if (!res.p) {
    n_bad++;
    fail("no result", m);
    return 0;
  }
  sv t = mj_get(mj_elem0(mj_get(res, "content")), "text");
  if (!t.p) {
    n_bad++;
    fail("no text", m);
    return 0;
  }
  if (expect_big) {
    if (t.n < 65000 || memcmp(t.p + 1, "abcdef", 6)) {
      n_bad++;
      fail("big text differs", t);
      return 0;
    }
    return 1;
  }
  if (t.n != c->textn + 2 || memcmp(t.p + 1, c->text, c->textn)) {
    n_bad++;
    fail("text differs", t);
    return 0;
  }
  return 1;
}
static int cmpu(const void *a, const void *b) {
  uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b;
  return x < y ? -1 : x > y;
}
int main(int ac, char **av) {
  signal(SIGPIPE, SIG_IGN);
  for (int i = 1; i < ac; i++) {
    char *a = av[i];
#define NX (++i < ac ? av[i] : (fprintf(stderr, "missing value for %s\n", a), exit(2), (char *)0))
    if (!strcmp(a, "-u")) {
      char *u = NX;
      if (strncmp(u, "http://", 7)) {
        fprintf(stderr, "http:// only\n");
        return 2;
      }
      char *h = strdup(u + 7);
      char *sl = strchr(h, '/');
      path = sl ? strdup(sl) : "/";
      if (sl) *sl = 0;
      char *co = strchr(h, ':');
      port = co ? atoi(co + 1) : 80;
      if (co) *co = 0;
      host = strcmp(h, "localhost") ? h : "127.0.0.1";
    } else if (!strcmp(a, "-c"))
      conc = atoi(NX);
    else if (!strcmp(a, "-d"))
      dur = atof(NX);
    else if (!strcmp(a, "-w"))
      warm = atof(NX);
    else if (!strcmp(a, "-t"))
      tool = NX;
    else if (!strcmp(a, "-T")) {
      snprintf(suffix, sizeof suffix, "%s", NX);
      usesuffix = 1;
    } else if (!strcmp(a, "-a"))
      bearer = NX;
    else if (!strcmp(a, "-H"))
      hdrs[nh++] = NX;
    else if (!strcmp(a, "-s"))
      size = atoi(NX);
    else if (!strcmp(a, "-M"))
      modern = 1;
    else if (!strcmp(a, "-n"))
      noinit = 1;
    else if (!strcmp(a, "--no-verify"))
      noverify = 1;
    else if (!strcmp(a, "--id-str"))
      idstr = 1;
    else if (!strcmp(a, "-S"))
      sessions = atoi(NX);
    else if (!strcmp(a, "-p"))
      pids[npid++] = atoi(NX);
    else if (!strcmp(a, "-j"))
      json_out = 1;
    else if (!strcmp(a, "-q"))
      quiet = 1;
    else if (!strcmp(a, "--proto"))
      proto = NX;
    else if (!strcmp(a, "--list"))
      lists = 1;
    else if (!strcmp(a, "--uniq"))
      uniq = 1;
    else if (!strcmp(a, "--big"))
      expect_big = 1;
    else {
      fprintf(stderr, "unknown option %s\n", a);
      return 2;
    }
  }
  if (!port) {
    fprintf(stderr, "usage: loadgen -u http://127.0.0.1:PORT/mcp [-c 16] [-d 5] ...\n");
    return 2;
  }
  size_t tl = strlen(tool);
  if (tl >= 3 && !strcmp(tool + tl - 3, "big")) expect_big = 1;
  if (setup()) return 1;
  if (dur <= 0) return 0;
  if (usesuffix) {
    tl = strlen(tool);
    if (tl >= 3 && !strcmp(tool + tl - 3, "big")) expect_big = 1;
  }
  ep = epoll_create1(0);
  conn *cs = calloc(conc, sizeof *cs);
  for (int i = 0; i < conc; i++) {
    cs[i].idx = i;
    cs[i].sess = i % sessions;
    cs[i].fd = -1;
    redial(&cs[i]);
    if (cs[i].fd < 0) {
      fprintf(stderr, "connect failed\n");
      return 1;
    }
  }
  caplat = 1 << 20;
  lat = malloc(caplat * 4);
  uint64_t T0 = now_ns(), TW = T0 + (uint64_t)(warm * 1e9), TE = TW + (uint64_t)(dur * 1e9);
  int measuring = 0;
  double cpu0 = 0;
  uint64_t tm0 = 0;
  struct rusage ru0, ru1;
  for (int i = 0; i < conc; i++) {
    start(&cs[i]);
    pump(&cs[i]);
  }
  struct epoll_event evs[256];
  uint64_t tn;
  for (;;) {
    tn = now_ns();
    if (!measuring && tn >= TW) {
      measuring = 1;
      nlat = 0;
      errs = n_bad = n_http = n_conn = reconn = 0;
      cpu0 = cpu_all();
      getrusage(RUSAGE_SELF, &ru0);
      tm0 = now_ns();
      TE = tm0 + (uint64_t)(dur * 1e9);
    }
    if (measuring && tn >= TE) break;
    int k = epoll_wait(ep, evs, 256, 100);
    for (int i = 0; i < k; i++) {
      conn *c = evs[i].data.ptr;
      if (c->fd < 0) continue;
      if (evs[i].events & EPOLLOUT) {
        pump(c);
        if (c->outoff == c->out.n) {
          struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
          epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
        }
      }
      if (!(evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      b_need(&c->in, 65536 * 2);
      ssize_t r = read(c->fd, c->in.p + c->in.n, c->in.cap - c->in.n - 1);
      if (r < 0 && errno == EAGAIN) continue;
      int eof = r <= 0;
      if (!eof) c->in.n += r;
      c->in.p[c->in.n] = 0;
      rep R;
      sv w = {c->id, strlen(c->id)};
      int rc = take(&c->in, eof, &R, w);
      if (rc == 0 && !eof) continue;
      if (rc == 1) {
        uint32_t us = (uint32_t)((now_ns() - c->t0) / 100);
        int ok = verify(c, &R);
        if (ok) {
          if (nlat == caplat) {
            caplat *= 2;
            lat = realloc(lat, caplat * 4);
          }
          lat[nlat++] = us;
        } else
          errs++;
        if (eof || R.close) {
          reconn++;
          redial(c);
        }
      } else {
        errs++;
        n_conn++;
        snprintf(lasterr, sizeof lasterr, "connection closed before a reply");
        redial(c);
      }
      if (c->fd >= 0) {
        start(c);
        pump(c);
      }
    }
    if (measuring && errs > 2000 && nlat < 10) {
      break;
    }
  }
  double el = (now_ns() - tm0) / 1e9, cpu = cpu_all() - cpu0;
  getrusage(RUSAGE_SELF, &ru1);
  double own = (ru1.ru_utime.tv_sec - ru0.ru_utime.tv_sec) + (ru1.ru_stime.tv_sec - ru0.ru_stime.tv_sec) +
               ((ru1.ru_utime.tv_usec - ru0.ru_utime.tv_usec) + (ru1.ru_stime.tv_usec - ru0.ru_stime.tv_usec)) / 1e6;
  qsort(lat, nlat, 4, cmpu);
#define P(q) (nlat ? lat[(size_t)((nlat - 1) * (q))] / 10.0 : 0.0)
  double rps = nlat / el, cpr = nlat ? cpu / nlat * 1e6 : 0;
  if (json_out)
    printf("{\"rps\":%.1f,\"p50_us\":%.1f,\"p95_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"ok\":%zu,\"errors\":%llu,"
           "\"reconnects\":%llu,\"cpu_us_per_req\":%.2f,\"cpu_share\":%.3f,\"loadgen_cpu_share\":%.3f,\"last_error\":"
           "\"%s\"}\n",
           rps, P(.5), P(.95), P(.99), P(1), nlat, (unsigned long long)errs, (unsigned long long)reconn, cpr, cpu / el,
           own / el, errs ? "see stderr" : "");
  else
    printf(
        "tool=%s c=%d  %.0f req/s  p50 %.0f us  p95 %.0f us  p99 %.0f us  max %.0f us  ok %zu  errors %llu (http %llu, "
        "content/id %llu, conn %llu)  reconnects %llu  server cpu %.1f us/req (%.0f%% of a core)  loadgen %.0f%%\n",
        tool, conc, rps, P(.5), P(.95), P(.99), P(1), nlat, (unsigned long long)errs, (unsigned long long)n_http,
        (unsigned long long)n_bad, (unsigned long long)n_conn, (unsigned long long)reconn, cpr, cpu / el * 100,
        own / el * 100);
  if (errs) fprintf(stderr, "last error: %s\n", lasterr);
  return errs ? 1 : 0;
}
