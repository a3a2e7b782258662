// mcpback: a light but correct MCP server for load tests (single thread, epoll).
//   mcpback http PORT [--modern] [--no-session]   paths: any path; path starting with /sse answers tools/call as SSE
//   mcpback stdio                                 newline-delimited JSON-RPC on stdin/stdout
// tools: echo{text} -> text ; big{} -> 64 KiB text ; slow{text} -> echo after 10 ms
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
#include <netinet/in.h>
#include <netinet/tcp.h>
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
static void b_u(buf *b, size_t v) {
  char t[24];
  int i = 24;
  do {
    t[--i] = '0' + v % 10;
    v /= 10;
  } while (v);
  b_add(b, t + i, 24 - i);
}
typedef struct conn {
  int fd;
  int stdio;
  uint32_t gen;
  buf in, out;
  size_t inoff, outoff;
  int want_w;
} conn;
typedef struct {
  uint64_t due;
  conn *c;
  uint32_t gen;
  int sse;
  char *body;
  size_t n;
} timer_e;
static timer_e *tq;
static size_t tq_h, tq_t, tq_cap;
static int ep, modern = 0, nosess = 0;
static uint64_t sess_n;
static char big[65537];
static unsigned long long n_req;
static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static void conn_close(conn *c) {
  if (c->stdio) exit(0);
  epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
  close(c->fd);
  c->fd = -1;
  c->gen++;
  c->in.n = c->out.n = c->inoff = c->outoff = 0;
  c->want_w = 0;
}
static void flush_out(conn *c) {
  while (c->outoff < c->out.n) {
    ssize_t k = c->stdio ? write(1, c->out.p + c->outoff, c->out.n - c->outoff)
                         : send(c->fd, c->out.p + c->outoff, c->out.n - c->outoff, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        if (c->stdio) {
          usleep(50);
          continue;
        }
        if (!c->want_w) {
          struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
          epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
          c->want_w = 1;
        }
        return;
      }
      conn_close(c);
      return;
    }
    c->outoff += k;
  }
  c->out.n = c->outoff = 0;
  if (c->want_w) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    c->want_w = 0;
  }
}
static void http_reply(buf *o, const char *b, size_t n, int sse, const char *extra) {
  if (sse) {
    b_s(o, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: "
           "chunked\r\n");
    if (extra) b_s(o, extra);
    b_s(o, "\r\n");
    char h[32];
    size_t k = n + strlen("event: message\ndata: ") + 2;
    b_add(o, h, sprintf(h, "%zx\r\n", k));
    b_s(o, "event: message\ndata: ");
    b_add(o, b, n);
    b_s(o, "\n\n\r\n0\r\n\r\n");
  } else {
    b_s(o, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
    b_u(o, n);
    b_s(o, "\r\n");
    if (extra) b_s(o, extra);
    b_s(o, "\r\n");
    b_add(o, b, n);
  }
}
static void emit(conn *c, const char *b, size_t n, int sse, const char *extra) {
  if (c->stdio) {
    b_add(&c->out, b, n);
    b_s(&c->out, "\n");
  } else
    http_reply(&c->out, b, n, sse, extra);
}
static buf T;
static void handle(conn *c, sv body, int sse, int is_modern) {
  n_req++;
  sv m = mj_get(body, "method"), id = mj_get(body, "id"), pr = mj_get(body, "params");
  T.n = 0;
  const char *extra = NULL;
  char ex[96];
  if (!m.p || !id.p) {
    if (!c->stdio)
      b_s(&c->out, m.p || mj_get(body, "result").p || mj_get(body, "error").p
                       ? "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
                       : "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  b_s(&T, "{\"jsonrpc\":\"2.0\",\"id\":");
  b_add(&T, id.p, id.n);
  const char *rt = is_modern ? "\"resultType\":\"complete\"," : "";
  if (sv_is(m, "tools/call")) {
    sv nm = mj_get(pr, "name"), ar = mj_get(pr, "arguments"), tx = mj_get(ar, "text");
    b_s(&T, ",\"result\":{");
    b_s(&T, rt);
    b_s(&T, "\"content\":[{\"type\":\"text\",\"text\":");
    if (sv_is(nm, "big")) {
      b_s(&T, "\"");
      b_add(&T, big, 65536);
      b_s(&T, "\"");
    } else if (tx.p)
      b_add(&T, tx.p, tx.n);
    else
      b_s(&T, "\"\"");
    b_s(&T, "}],\"isError\":false}}");
    if (sv_is(nm, "slow")) {
      if (tq_t == tq_cap) {
        if (tq_h > 0) {
          memmove(tq, tq + tq_h, (tq_t - tq_h) * sizeof *tq);
          tq_t -= tq_h;
          tq_h = 0;
        }
        if (tq_t == tq_cap) {
          tq_cap = tq_cap ? tq_cap * 2 : 1024;
          tq = realloc(tq, tq_cap * sizeof *tq);
        }
      }
      char *cp = malloc(T.n);
      memcpy(cp, T.p, T.n);
      tq[tq_t++] = (timer_e){now_ns() + 10000000ull, c, c->gen, sse, cp, T.n};
      return;
    }
  } else if (sv_is(m, "initialize")) {
    sv pv = mj_get(pr, "protocolVersion");
    b_s(&T, ",\"result\":{\"protocolVersion\":");
    if (pv.p)
      b_add(&T, pv.p, pv.n);
    else
      b_s(&T, "\"2025-11-25\"");
    b_s(&T, ",\"capabilities\":{\"tools\":{\"listChanged\":false}},\"serverInfo\":{\"name\":\"mcpback\",\"version\":"
            "\"1\"}}}");
    sse = 0;
    if (!nosess) {
      sprintf(ex, "Mcp-Session-Id: be-%llu\r\n", (unsigned long long)++sess_n);
      extra = ex;
    }
  } else if (sv_is(m, "server/discover") && modern) {
    b_s(&T, ",\"result\":{\"resultType\":\"complete\",\"ttlMs\":60000,\"cacheScope\":\"private\",\"supportedVersions\":"
            "[\"2026-07-28\",\"2025-11-25\"],\"capabilities\":{\"tools\":{\"listChanged\":false}},\"serverInfo\":{"
            "\"name\":\"mcpback\",\"version\":\"1\"},\"_meta\":{\"io.modelcontextprotocol/"
            "serverInfo\":{\"name\":\"mcpback\",\"version\":\"1\"}}}}");
  } else if (sv_is(m, "tools/list")) {
    b_s(&T, ",\"result\":{");
    b_s(&T, rt);
    if (is_modern) b_s(&T, "\"ttlMs\":60000,\"cacheScope\":\"private\",");
    b_s(&T, "\"tools\":[{\"name\":\"echo\",\"description\":\"Echo the "
            "text\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":["
            "\"text\"]}},{\"name\":\"big\",\"description\":\"64 "
            "KiB\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}},{\"name\":"
            "\"slow\",\"description\":\"Echo after 10 "
            "ms\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":["
            "\"text\"]}}]}}");
  } else if (sv_is(m, "ping"))
    b_s(&T, ",\"result\":{}}");
  else if (sv_is(m, "resources/list"))
    b_s(&T, ",\"result\":{\"resources\":[]}}");
  else if (sv_is(m, "prompts/list"))
    b_s(&T, ",\"result\":{\"prompts\":[]}}");
  else if (sv_is(m, "resources/templates/list"))
    b_s(&T, ",\"result\":{\"resourceTemplates\":[]}}");
  else if (sv_is(m, "logging/setLevel"))
    b_s(&T, ",\"result\":{}}");
  else
    b_s(&T, ",\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}");
  emit(c, T.p, T.n, sse && sv_is(m, "tools/call"), extra);
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
static void process(conn *c) {
  for (;;) {
    if (c->fd < 0) return;
    char *p = c->in.p + c->inoff;
    size_t n = c->in.n - c->inoff;
    if (!n) break;
    if (c->stdio) {
      char *nl = memchr(p, '\n', n);
      if (!nl) break;
      sv b = {p, (size_t)(nl - p)};
      if (b.n > 1) handle(c, b, 0, memmem(b.p, b.n, "io.modelcontextprotocol/protocolVersion", 39) != NULL);
      c->inoff += nl - p + 1;
      continue;
    }
    char *he = memmem(p, n, "\r\n\r\n", 4);
    if (!he) break;
    char *hs = memchr(p, '\n', he - p);
    if (!hs)
      hs = he;
    else
      hs++;
    sv cl = hdr(hs, he + 2, "content-length"), te = hdr(hs, he + 2, "transfer-encoding");
    size_t bl = 0, used;
    char *bp = he + 4;
    static buf D;
    if (te.p && te.n >= 7 && !strncasecmp(te.p, "chunked", 7)) {
      D.n = 0;
      char *q = bp;
      char *e = p + n;
      int done = 0;
      for (;;) {
        char *l = memmem(q, e - q, "\r\n", 2);
        if (!l) break;
        size_t k = strtoul(q, NULL, 16);
        q = l + 2;
        if ((size_t)(e - q) < k + 2) break;
        if (!k) {
          q += 2;
          done = 1;
          break;
        }
        b_add(&D, q, k);
        q += k + 2;
      }
      if (!done) break;
      used = q - p;
      bp = D.p;
      bl = D.n;
    } else {
      if (cl.p) bl = strtoul(cl.p, NULL, 10);
      if (n < (size_t)(he + 4 - p) + bl) break;
      used = (he + 4 - p) + bl;
    }
    int sse = 0;
    char *sp = memchr(p, ' ', he - p);
    if (sp && !strncmp(sp + 1, "/sse", 4)) sse = 1;
    if (!strncmp(p, "POST ", 5)) {
      sv pv = hdr(hs, he + 2, "mcp-protocol-version");
      sv b = {bp, bl};
      handle(c, b, sse, pv.n == 10 && !memcmp(pv.p, "2026-07-28", 10));
    } else if (!strncmp(p, "DELETE ", 7))
      b_s(&c->out, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    else if (!strncmp(p, "GET /health", 11)) {
      char t[64];
      int k = sprintf(t, "%llu", n_req);
      http_reply(&c->out, t, k, 0, NULL);
    } else
      b_s(&c->out, "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, DELETE\r\nContent-Length: 0\r\n\r\n");
    c->inoff += used;
  }
  if (c->inoff == c->in.n)
    c->in.n = c->inoff = 0;
  else if (c->inoff > 65536) {
    memmove(c->in.p, c->in.p + c->inoff, c->in.n - c->inoff);
    c->in.n -= c->inoff;
    c->inoff = 0;
  }
}
int main(int ac, char **av) {
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < 65536; i++) big[i] = 'a' + i % 26;
  ep = epoll_create1(0);
  int ls = -1;
  int stdio = ac > 1 && !strcmp(av[1], "stdio");
  for (int i = 1; i < ac; i++) {
    if (!strcmp(av[i], "--modern")) modern = 1;
    if (!strcmp(av[i], "--no-session")) nosess = 1;
  }
  if (stdio) {
    conn *c = calloc(1, sizeof *c);
    c->fd = 0;
    c->stdio = 1;
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, 0, &ev);
  } else {
    ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int one = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(atoi(av[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(ls, (void *)&a, sizeof a) || listen(ls, 1024)) {
      perror("bind");
      return 1;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
  }
  struct epoll_event evs[256];
  for (;;) {
    struct timespec ts, *tp = NULL;
    if (tq_h < tq_t) {
      uint64_t nw = now_ns(), d = tq[tq_h].due;
      uint64_t w = d > nw ? d - nw : 0;
      ts.tv_sec = w / 1000000000;
      ts.tv_nsec = w % 1000000000;
      tp = &ts;
    }
    int k = epoll_pwait2(ep, evs, 256, tp, NULL);
    if (k < 0 && errno != EINTR) {
      perror("epoll");
      return 1;
    }
    for (int i = 0; i < k; i++) {
      conn *c = evs[i].data.ptr;
      if (!c) {
        for (;;) {
          int f = accept4(ls, NULL, NULL, SOCK_NONBLOCK);
          if (f < 0) break;
          int one = 1;
          setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          conn *n = calloc(1, sizeof *n);
          n->fd = f;
          struct epoll_event ev = {.events = EPOLLIN, .data.ptr = n};
          epoll_ctl(ep, EPOLL_CTL_ADD, f, &ev);
        }
        continue;
      }
      if (c->fd < 0) continue;
      if (evs[i].events & EPOLLOUT) flush_out(c);
      if (c->fd < 0) continue;
      if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        b_need(&c->in, 65536);
        ssize_t r = read(c->fd, c->in.p + c->in.n, c->in.cap - c->in.n);
        if (r <= 0) {
          if (r < 0 && (errno == EAGAIN || errno == EINTR)) continue;
          conn_close(c);
          continue;
        }
        c->in.n += r;
        process(c);
        if (c->fd >= 0 && c->out.n) flush_out(c);
      }
    }
    if (tq_h < tq_t) {
      uint64_t nw = now_ns();
      while (tq_h < tq_t && tq[tq_h].due <= nw) {
        timer_e *t = &tq[tq_h++];
        if (t->c->gen == t->gen && t->c->fd >= 0) {
          emit(t->c, t->body, t->n, t->sse, NULL);
          flush_out(t->c);
        }
        free(t->body);
      }
      if (tq_h == tq_t) tq_h = tq_t = 0;
    }
  }
}
