/* A server that speaks enough of S3 to be uploaded to, and costs as little as it can.

   It keeps the name, size, byte sum and time of each object, never its bytes, in memory. Signatures
   are not checked. An ETag is the Content-MD5 that the request announced, or else something that
   nobody takes for an MD5.

   Built with -DTLS and -lssl -lcrypto it also speaks TLS. It reads commands from its standard
   input, one a line (see `command`), answers on its standard output, and ends with its input. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { MOST_HEAD = 64 << 10, MOST_PATH = 2 << 10, MOST_QUERY = 6 << 10, MOST_BODY = 8 << 20 };
enum { BLOCK = 1 << 20, EVENTS = 512, MOST_THREADS = 64 };

static uint64_t response_delay, connect_delay; /* nanoseconds */

static void die(const char *what)
{
    fprintf(stderr, "sink: %s: %s\n", what, errno ? strerror(errno) : "no memory, or wrong usage");
    exit(1);
}

static void *must(void *memory)
{
    if (!memory)
        die("memory");
    return memory;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

/* --- text that grows -------------------------------------------------------------------------- */

struct text {
    char *at;
    size_t length, room;
};

static void append(struct text *text, const void *data, size_t length)
{
    if (text->length + length + 1 > text->room) {
        text->room = 2 * (text->length + length) + 256;
        text->at = must(realloc(text->at, text->room));
    }
    memcpy(text->at + text->length, data, length);
    text->length += length;
    text->at[text->length] = 0;
}

__attribute__((format(printf, 2, 3))) static void print(struct text *text, const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    append(text, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
}

static void append_quoted(struct text *text, const char *data, size_t length, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; length--; data++) {
        unsigned char c = *data;
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c && strchr("-._~", c)) || (keep_slash && c == '/');
        char quoted[3] = {'%', digits[c >> 4], digits[c & 15]};
        append(text, plain ? data : quoted, plain ? 1 : 3);
    }
}

static void append_xml(struct text *text, const char *data, size_t length)
{
    for (; length--; data++) {
        unsigned char c = *data;
        if (c < 32 || strchr("<>&\"'", c))
            print(text, "&#x%x;", c);
        else
            append(text, data, 1);
    }
}

static size_t unquote(char *to, size_t room, const char *from, size_t length, bool plus)
{
    size_t n = 0;
    for (size_t i = 0; i < length && n + 1 < room; i++) {
        unsigned value;
        char digits[3] = {0};
        if (from[i] == '%' && i + 2 < length) {
            memcpy(digits, from + i + 1, 2);
            value = strtoul(digits, NULL, 16);
            i += 2;
        } else
            value = plus && from[i] == '+' ? ' ' : from[i];
        to[n++] = value;
    }
    to[n] = 0;
    return n;
}

/* --- what the sink knows ---------------------------------------------------------------------- */

struct part {
    struct part *next;
    uint64_t size, sum;
    int number;
};

struct entry {
    char *name; /* a bucket, or bucket/key; an upload's is id/bucket/key */
    size_t length;
    uint64_t hash, size, sum, time;
    struct part *parts;
    unsigned char md5[16];
    bool has_md5;
    int count; /* of parts */
};

/* Open addressing; an entry that was removed leaves a mark that is searched past. */
struct table {
    struct entry **slots;
    size_t room, used, live;
};

static struct entry removed;
static struct table objects, buckets, uploads;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the three */
static _Atomic uint64_t requests, puts_, heads, errors, bytes, connections, open_now, most_open;
static _Atomic uint64_t upload_ids;

static uint64_t hash_of(const char *name, size_t length)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 1099511628211u;
    return hash ^ hash >> 29;
}

static struct entry **place(struct table *table, uint64_t hash, const char *name, size_t length)
{
    struct entry **spare = NULL;
    for (size_t i = hash;; i++) {
        struct entry **slot = &table->slots[i & (table->room - 1)];
        if (!*slot)
            return spare ? spare : slot;
        if (*slot == &removed)
            spare = spare ? spare : slot;
        else if ((*slot)->hash == hash && (*slot)->length == length &&
                 !memcmp((*slot)->name, name, length))
            return slot;
    }
}

static struct entry *find(struct table *table, const char *name, size_t length)
{
    if (!table->room)
        return NULL;
    struct entry *found = *place(table, hash_of(name, length), name, length);
    return found == &removed ? NULL : found;
}

static void grow(struct table *table)
{
    struct table old = *table;
    table->room = old.live * 4 < 1024 ? 1024 : 1;
    while (table->room < old.live * 4)
        table->room *= 2;
    table->slots = must(calloc(table->room, sizeof *table->slots));
    table->used = old.live;
    for (size_t i = 0; i < old.room; i++) {
        struct entry *e = old.slots[i];
        if (e && e != &removed)
            *place(table, e->hash, e->name, e->length) = e;
    }
    free(old.slots);
}

static struct entry *put(struct table *table, const char *name, size_t length)
{
    if (table->used * 2 >= table->room)
        grow(table);
    uint64_t hash = hash_of(name, length);
    struct entry **slot = place(table, hash, name, length);
    if (*slot && *slot != &removed)
        return *slot;
    struct entry *e = must(calloc(1, sizeof *e));
    e->name = must(malloc(length + 1));
    memcpy(e->name, name, length);
    e->name[length] = 0;
    e->length = length;
    e->hash = hash;
    table->used += !*slot;
    table->live++;
    return *slot = e;
}

static bool take_out(struct table *table, const char *name, size_t length)
{
    struct entry *e = find(table, name, length);
    if (!e)
        return false;
    *place(table, e->hash, name, length) = &removed;
    table->live--;
    while (e->parts) {
        struct part *next = e->parts->next;
        free(e->parts);
        e->parts = next;
    }
    free(e->name);
    free(e);
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    int order = memcmp(x->name, y->name, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* The entries whose names begin like this, in order; the caller frees the list. */
static struct entry **sorted(struct table *table, const char *prefix, size_t length, size_t *count)
{
    struct entry **found = must(malloc((table->live + 1) * sizeof *found));
    *count = 0;
    for (size_t i = 0; i < table->room; i++) {
        struct entry *e = table->slots[i];
        if (e && e != &removed && e->length >= length && !memcmp(e->name, prefix, length))
            found[(*count)++] = e;
    }
    qsort(found, *count, sizeof *found, by_name);
    return found;
}

/* --- connections ------------------------------------------------------------------------------ */

/* The framing of Transfer-Encoding: chunked, which aws-chunked shares. */
struct chunks {
    enum { SIZE, SIZE_REST, DATA, DATA_END, TRAILER, DONE } state;
    uint64_t left;
    size_t line; /* characters of the present line of the trailer */
};

struct connection {
    struct connection *next; /* in a queue of delayed ones */
    uint64_t due;
    int descriptor;
    enum { HEAD, BODY, DELAYED, SENDING, CLOSED } state;
    bool readable, hung_up, again, interim, close_after, is_get;
    struct text held, out, body;
    size_t sent;
    struct thread *thread;
#ifdef TLS
    SSL *tls;
#endif
    /* The request. */
    char method[8], path[MOST_PATH], query[MOST_QUERY];
    size_t path_length;
    uint64_t left, size, sum;
    struct chunks outer, inner;
    bool chunked, aws_chunked, has_md5, is_upload;
    unsigned char md5[16];
};

struct queue {
    struct connection *first, *last;
};

struct thread {
    pthread_t id;
    int epoll, timer, mailbox[2];
    uint64_t armed;
    struct queue responses, newcomers;
    char *block;
};

static struct thread threads[MOST_THREADS];
static int thread_count = 1, listener;
#ifdef TLS
static SSL_CTX *tls_context;
#endif

static void delay(struct queue *queue, struct connection *c, uint64_t by)
{
    c->due = now() + by;
    c->next = NULL;
    c->state = DELAYED;
    if (queue->last)
        queue->last->next = c;
    else
        queue->first = c;
    queue->last = c;
}

static void send_out(struct connection *c)
{
    c->sent = 0;
    if (response_delay)
        delay(&c->thread->responses, c, response_delay);
    else
        c->state = SENDING;
}

static void reply(struct connection *c, const char *status, const char *headers, struct text *body)
{
    size_t length = body ? body->length : 0;
    c->out.length = 0;
    print(&c->out, "HTTP/1.1 %s\r\nx-amz-request-id: SINK\r\n%s", status, headers);
    if (!strstr(headers, "Content-Length:") && strncmp(status, "204", 3))
        print(&c->out, "%sContent-Length: %zu\r\n",
              length ? "Content-Type: application/xml\r\n" : "", length);
    append(&c->out, c->close_after ? "Connection: close\r\n\r\n" : "\r\n", c->close_after ? 21 : 2);
    if (length && strcmp(c->method, "HEAD"))
        append(&c->out, body->at, length);
    if (status[0] != '2')
        errors++;
    c->interim = false;
    send_out(c);
}

static void refuse(struct connection *c, const char *status, const char *code)
{
    struct text xml = {0};
    print(&xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>", code);
    print(&xml, "the sink says %s</Message></Error>", code);
    reply(c, status, "", &xml);
    free(xml.at);
}

/* Copies a parameter of the query, "" if it has no value; returns false if there is none. */
static bool parameter(struct connection *c, const char *name, char *value, size_t room)
{
    size_t length = strlen(name);
    for (const char *at = c->query; *at;) {
        const char *end = strchrnul(at, '&');
        if (!strncmp(at, name, length) && (at[length] == '=' || at + length == end)) {
            const char *from = at[length] == '=' ? at + length + 1 : end;
            unquote(value, room, from, end - from, true);
            return true;
        }
        at = *end ? end + 1 : end;
    }
    return false;
}

static void http_time(char *to, size_t room)
{
    time_t seconds = time(NULL);
    struct tm parts;
    strftime(to, room, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&seconds, &parts));
}

static void etag(char *to, const struct entry *e)
{
    if (e->has_md5) {
        for (int i = 0; i < 16; i++)
            sprintf(to + 2 * i, "%02x", e->md5[i]);
    } else
        sprintf(to, "%016" PRIx64 "-%d", e->sum, e->count ? e->count : 1);
}

static const char XML[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
static const char WHEN[] = "2020-01-01T00:00:00.000Z";

static void list_buckets(struct connection *c)
{
    struct text xml = {0};
    size_t count;
    print(&xml, "%s<ListAllMyBucketsResult><Owner><ID>sink</ID></Owner><Buckets>", XML);
    struct entry **found = sorted(&buckets, "", 0, &count);
    for (size_t i = 0; i < count; i++)
        print(&xml, "<Bucket><Name>%s</Name><CreationDate>%s</CreationDate></Bucket>",
              found[i]->name, WHEN);
    free(found);
    print(&xml, "</Buckets></ListAllMyBucketsResult>");
    reply(c, "200 OK", "", &xml);
    free(xml.at);
}

static void list_uploads(struct connection *c)
{
    struct text xml = {0};
    size_t count;
    print(&xml, "%s<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>", XML);
    struct entry **found = sorted(&uploads, "", 0, &count);
    for (size_t i = 0; i < count; i++) {
        const char *bucket = strchr(found[i]->name, '/') + 1, *key = strchr(bucket, '/') + 1;
        char prefix[MOST_PATH] = "";
        parameter(c, "prefix", prefix, sizeof prefix);
        if (strncmp(bucket, c->path, c->path_length) || bucket[c->path_length] != '/' ||
            strncmp(key, prefix, strlen(prefix)))
            continue;
        print(&xml, "<Upload><Key>");
        append_xml(&xml, key, strlen(key));
        print(&xml, "</Key><UploadId>%.*s</UploadId><Initiated>%s</Initiated></Upload>",
              (int)(bucket - 1 - found[i]->name), found[i]->name, WHEN);
    }
    free(found);
    print(&xml, "</ListMultipartUploadsResult>");
    reply(c, "200 OK", "", &xml);
    free(xml.at);
}

/* ListObjectsV2, or V1 without list-type; a token is the last key or prefix that was told. */
static void list_objects(struct connection *c)
{
    struct text xml = {0};
    char prefix[MOST_PATH] = "", after[MOST_PATH] = "", value[MOST_PATH] = "", delimiter[8] = "";
    char name[2 * MOST_PATH], last[MOST_PATH] = "", common[MOST_PATH] = "";
    bool second = parameter(c, "list-type", value, sizeof value);
    bool quoted = parameter(c, "encoding-type", value, sizeof value);
    size_t most = parameter(c, "max-keys", value, sizeof value) ? strtoul(value, NULL, 10) : 1000;
    size_t told = 0, count;
    bool cut = false;
    if (!second)
        parameter(c, "marker", after, sizeof after);
    else if (!parameter(c, "continuation-token", after, sizeof after))
        parameter(c, "start-after", after, sizeof after);
    parameter(c, "prefix", prefix, sizeof prefix);
    parameter(c, "delimiter", delimiter, sizeof delimiter);
    most = most > 1000 ? 1000 : most;
    size_t length = snprintf(name, sizeof name, "%s/%s", c->path, prefix);
    struct entry **found = sorted(&objects, name, length, &count);
    print(&xml, "%s<ListBucketResult><Name>%s</Name>", XML, c->path);
    for (size_t i = 0; i < count; i++) {
        const char *key = found[i]->name + c->path_length + 1;
        size_t n = found[i]->length - c->path_length - 1;
        const char *end = *delimiter ? strstr(key + strlen(prefix), delimiter) : NULL;
        if (end)
            n = end - key + strlen(delimiter);
        char shown[MOST_PATH];
        memcpy(shown, key, n);
        shown[n] = 0;
        if ((*after && strcmp(shown, after) <= 0) || (end && !strcmp(shown, common)))
            continue;
        if (told == most) {
            cut = most > 0;
            break;
        }
        told++;
        strcpy(last, shown);
        print(&xml, end ? "<CommonPrefixes><Prefix>" : "<Contents><Key>");
        (quoted ? (void)append_quoted(&xml, shown, n, true) : append_xml(&xml, shown, n));
        if (end) {
            strcpy(common, shown);
            print(&xml, "</Prefix></CommonPrefixes>");
            continue;
        }
        char tag[64];
        etag(tag, found[i]);
        print(&xml, "</Key><LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag><Size>%" PRIu64
              "</Size><StorageClass>STANDARD</StorageClass></Contents>", WHEN, tag, found[i]->size);
    }
    free(found);
    print(&xml, "<IsTruncated>%s</IsTruncated><KeyCount>%zu</KeyCount>%s", cut ? "true" : "false",
          told, quoted ? "<EncodingType>url</EncodingType>" : "");
    if (cut) {
        print(&xml, second ? "<NextContinuationToken>" : "<NextMarker>");
        /* Clients decode a marker, and give a token back as it is. */
        (quoted && !second ? (void)append_quoted(&xml, last, strlen(last), true)
                           : append_xml(&xml, last, strlen(last)));
        print(&xml, second ? "</NextContinuationToken>" : "</NextMarker>");
    }
    print(&xml, "</ListBucketResult>");
    reply(c, "200 OK", "", &xml);
    free(xml.at);
}

static void on_bucket(struct connection *c)
{
    char value[64];
    bool exists = find(&buckets, c->path, c->path_length);
    if (!strcmp(c->method, "PUT")) {
        put(&buckets, c->path, c->path_length);
        reply(c, "200 OK", "", NULL);
    } else if (!exists)
        refuse(c, "404 Not Found", "NoSuchBucket");
    else if (!strcmp(c->method, "HEAD"))
        reply(c, "200 OK", "", NULL);
    else if (strcmp(c->method, "GET"))
        refuse(c, "501 Not Implemented", "NotImplemented");
    else if (parameter(c, "location", value, sizeof value)) {
        struct text xml = {0};
        print(&xml, "%s<LocationConstraint></LocationConstraint>", XML);
        reply(c, "200 OK", "", &xml);
        free(xml.at);
    } else if (parameter(c, "uploads", value, sizeof value))
        list_uploads(c);
    else
        list_objects(c);
}

static void say_stored(struct connection *c, const struct entry *e)
{
    char headers[128], tag[64];
    etag(tag, e);
    snprintf(headers, sizeof headers, "ETag: \"%s\"\r\n", tag);
    reply(c, "200 OK", headers, NULL);
}

static struct entry *store(struct connection *c, uint64_t size, uint64_t sum)
{
    struct entry *e = put(&objects, c->path, c->path_length);
    e->size = size;
    e->sum = sum;
    e->time = now();
    e->count = 0;
    if ((e->has_md5 = c->has_md5))
        memcpy(e->md5, c->md5, 16);
    return e;
}

static void head_object(struct connection *c)
{
    struct entry *e = find(&objects, c->path, c->path_length);
    char headers[256], tag[64], when[64];
    heads++;
    if (!e) {
        refuse(c, "404 Not Found", "NoSuchKey");
        return;
    }
    etag(tag, e);
    http_time(when, sizeof when);
    snprintf(headers, sizeof headers, "Content-Length: %" PRIu64 "\r\nETag: \"%s\"\r\n"
             "Last-Modified: %s\r\nContent-Type: application/octet-stream\r\n", e->size, tag, when);
    reply(c, "200 OK", headers, NULL);
}

static void put_part(struct connection *c, struct entry *upload, int number)
{
    struct part **at = &upload->parts;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    if (!*at)
        *at = must(calloc(1, sizeof **at));
    (*at)->number = number;
    (*at)->size = c->size;
    (*at)->sum = c->sum;
    say_stored(c, &(struct entry){.sum = c->sum});
}

static void complete(struct connection *c, struct entry *upload, const char *id)
{
    static const char name[] = "<PartNumber>";
    uint64_t size = 0, sum = 0;
    int count = 0;
    for (const char *at = c->body.at; at && (at = strstr(at, name)); count++) {
        int number = atoi(at += sizeof name - 1);
        struct part *part = upload->parts;
        while (part && part->number != number)
            part = part->next;
        if (!part) {
            refuse(c, "400 Bad Request", "InvalidPart");
            return;
        }
        size += part->size;
        sum += part->sum;
    }
    if (!count) {
        refuse(c, "400 Bad Request", "MalformedXML");
        return;
    }
    c->has_md5 = false;
    struct entry *e = store(c, size, sum);
    e->count = count;
    take_out(&uploads, id, strlen(id));
    struct text xml = {0};
    char tag[64];
    etag(tag, e);
    print(&xml, "%s<CompleteMultipartUploadResult><Key>", XML);
    const char *key = strchr(c->path, '/') + 1;
    append_xml(&xml, key, strlen(key));
    print(&xml, "</Key><ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", tag);
    reply(c, "200 OK", "", &xml);
    free(xml.at);
}

static void create(struct connection *c)
{
    char name[MOST_PATH + 32];
    struct text xml = {0};
    int digits = snprintf(name, sizeof name, "upload%" PRIu64, ++upload_ids);
    print(&xml, "%s<InitiateMultipartUploadResult><Key>", XML);
    const char *key = strchr(c->path, '/') + 1;
    append_xml(&xml, key, strlen(key));
    print(&xml, "</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>", name);
    int length = snprintf(name + digits, sizeof name - digits, "/%s", c->path);
    put(&uploads, name, digits + length);
    reply(c, "200 OK", "", &xml);
    free(xml.at);
}

static void on_object(struct connection *c)
{
    char id[64], number[16], value[8], name[MOST_PATH + 64];
    const char *method = c->method;
    if (!find(&buckets, c->path, strchr(c->path, '/') - c->path)) {
        refuse(c, "404 Not Found", "NoSuchBucket");
        return;
    }
    if (parameter(c, "uploadId", id, sizeof id)) {
        snprintf(name, sizeof name, "%s/%s", id, c->path);
        struct entry *upload = find(&uploads, name, strlen(name));
        if (!upload)
            refuse(c, "404 Not Found", "NoSuchUpload");
        else if (!strcmp(method, "PUT") && parameter(c, "partNumber", number, sizeof number))
            put_part(c, upload, atoi(number));
        else if (!strcmp(method, "POST"))
            complete(c, upload, name);
        else if (!strcmp(method, "DELETE")) {
            take_out(&uploads, name, strlen(name));
            reply(c, "204 No Content", "", NULL);
        } else
            refuse(c, "501 Not Implemented", "NotImplemented");
    } else if (c->is_upload) {
        puts_++;
        say_stored(c, store(c, c->size, c->sum));
    } else if (!strcmp(method, "HEAD"))
        head_object(c);
    else if (!strcmp(method, "POST") && parameter(c, "uploads", value, sizeof value))
        create(c);
    else if (!strcmp(method, "DELETE")) {
        take_out(&objects, c->path, c->path_length);
        reply(c, "204 No Content", "", NULL);
    } else
        refuse(c, "501 Not Implemented", "NotImplemented");
}

static void respond(struct connection *c)
{
    requests++;
    bytes += c->size;
    pthread_mutex_lock(&lock);
    if (!c->path_length)
        list_buckets(c);
    else if (!strchr(c->path, '/'))
        on_bucket(c);
    else
        on_object(c);
    pthread_mutex_unlock(&lock);
}

/* --- requests --------------------------------------------------------------------------------- */

static void take(struct connection *c, const char *data, size_t length)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += (unsigned char)data[i];
    c->sum += sum;
    c->size += length;
    if (!strcmp(c->method, "POST") && c->body.length + length <= MOST_BODY)
        append(&c->body, data, length);
}

/* Takes what belongs to the framed body from the data; returns how much that was. */
static size_t unchunk(struct chunks *k, const char *data, size_t length, struct connection *c,
                      void (*deliver)(struct connection *, const char *, size_t))
{
    size_t i = 0;
    while (i < length && k->state != DONE) {
        char at = data[i];
        size_t n = length - i < k->left ? length - i : k->left;
        switch (k->state) {
        case SIZE:
        case SIZE_REST:
            i++;
            if (at == '\n') {
                k->state = k->left ? DATA : TRAILER;
                k->line = 0;
            } else if (at == ';')
                k->state = SIZE_REST;
            else if (k->state == SIZE && at != '\r')
                k->left = k->left << 4 | (at <= '9' ? at - '0' : (at | 32) - 'a' + 10);
            break;
        case DATA:
            deliver(c, data + i, n);
            i += n;
            if (!(k->left -= n))
                k->state = DATA_END;
            break;
        case DATA_END:
            i++;
            if (at == '\n')
                k->state = SIZE;
            break;
        default:
            i++;
            if (at != '\n')
                k->line += at != '\r';
            else if (k->line)
                k->line = 0;
            else
                k->state = DONE;
        }
    }
    return i;
}

static void deliver(struct connection *c, const char *data, size_t length)
{
    if (c->aws_chunked)
        unchunk(&c->inner, data, length, c, take);
    else
        take(c, data, length);
}

static size_t read_body(struct connection *c, const char *data, size_t length)
{
    size_t n;
    if (c->chunked) {
        n = unchunk(&c->outer, data, length, c, deliver);
        if (c->outer.state == DONE)
            respond(c);
        return n;
    }
    n = length < c->left ? length : c->left;
    deliver(c, data, n);
    if (!(c->left -= n))
        respond(c);
    return n;
}

static bool header_is(const char *line, const char *name, const char **value)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) || line[length] != ':')
        return false;
    for (*value = line + length + 1; **value == ' '; ++*value)
        ;
    return true;
}

static void read_md5(struct connection *c, const char *base64)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n = 0;
    for (int i = 0; i < 22 && base64[i]; i++) {
        const char *letter = strchr(letters, base64[i]);
        if (!letter)
            return;
        bits = bits << 6 | (letter - letters);
        if (i % 4)
            c->md5[n++] = bits >> (6 - 2 * (i % 4));
    }
    c->has_md5 = n == 16;
}

/* Takes a head, which is changed; what follows it is the body. */
static void read_head(struct connection *c, char *head)
{
    char *rest = NULL, *line = strtok_r(head, "\r\n", &rest);
    char *method = strtok_r(line, " ", &line), *target = method ? strtok_r(NULL, " ", &line) : NULL;
    bool expects = false;
    const char *value;
    c->left = c->size = c->sum = 0;
    c->chunked = c->aws_chunked = c->has_md5 = c->close_after = false;
    c->outer = c->inner = (struct chunks){0};
    c->body.length = 0;
    c->query[0] = c->path[0] = 0;
    snprintf(c->method, sizeof c->method, "%s", method ? method : "");
    if (!target || *target != '/' || strlen(target) >= MOST_PATH) {
        c->close_after = true;
        c->path_length = 0;
        refuse(c, "400 Bad Request", "BadRequest");
        return;
    }
    char *question = strchrnul(target, '?');
    if (*question)
        snprintf(c->query, sizeof c->query, "%s", question + 1);
    c->path_length = unquote(c->path, sizeof c->path, target + 1, question - target - 1, false);
    char *slash = strchr(c->path, '/');
    if (slash && !slash[1])
        c->path[--c->path_length] = 0; /* "bucket/" is the bucket */
    while ((line = strtok_r(NULL, "\r\n", &rest))) {
        if (header_is(line, "content-length", &value))
            c->left = strtoull(value, NULL, 10);
        else if (header_is(line, "transfer-encoding", &value))
            c->chunked = strcasestr(value, "chunked");
        else if (header_is(line, "content-encoding", &value))
            c->aws_chunked |= strcasestr(value, "aws-chunked") != NULL;
        else if (header_is(line, "x-amz-content-sha256", &value))
            c->aws_chunked |= !strncmp(value, "STREAMING-", 10);
        else if (header_is(line, "content-md5", &value))
            read_md5(c, value);
        else if (header_is(line, "expect", &value))
            expects = !strncasecmp(value, "100-continue", 12);
        else if (header_is(line, "connection", &value))
            c->close_after = !strncasecmp(value, "close", 5);
    }
    c->is_upload = !strcmp(c->method, "PUT");
    if (!c->left && !c->chunked) {
        respond(c);
    } else if (expects) {
        c->interim = true;
        c->out.length = 0;
        append(&c->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        send_out(c);
    } else
        c->state = BODY;
}

static void hold(struct connection *c, const char *data, size_t length)
{
    if (length)
        append(&c->held, data, length);
}

/* Works off bytes until they, or a request, are at an end; keeps the others. */
static void feed(struct connection *c, char *data, size_t length)
{
    while (length && (c->state == HEAD || c->state == BODY)) {
        size_t n;
        if (c->state == BODY)
            n = read_body(c, data, length);
        else {
            char *end = memmem(data, length, "\r\n\r\n", 4);
            if (!end) {
                if (length > MOST_HEAD)
                    c->state = CLOSED;
                break;
            }
            n = end + 4 - data;
            *end = 0;
            read_head(c, data);
        }
        data += n;
        length -= n;
    }
    c->again = length && c->state != HEAD;
    hold(c, data, length);
}

/* --- sockets ---------------------------------------------------------------------------------- */

static ssize_t receive(struct connection *c, char *to, size_t room)
{
#ifdef TLS
    if (c->tls) {
        ERR_clear_error();
        int n = SSL_read(c->tls, to, room > INT32_MAX ? INT32_MAX : room);
        if (n > 0)
            return n;
        int why = SSL_get_error(c->tls, n);
        errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
        return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
    }
#endif
    return recv(c->descriptor, to, room, 0);
}

static ssize_t transmit(struct connection *c, const char *from, size_t length)
{
#ifdef TLS
    if (c->tls) {
        ERR_clear_error();
        int n = SSL_write(c->tls, from, length);
        if (n > 0)
            return n;
        int why = SSL_get_error(c->tls, n);
        errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
        return -1;
    }
#endif
    return send(c->descriptor, from, length, MSG_NOSIGNAL);
}

static void destroy(struct connection *c)
{
#ifdef TLS
    if (c->tls)
        SSL_free(c->tls);
#endif
    close(c->descriptor);
    open_now--;
    free(c->held.at);
    free(c->out.at);
    free(c->body.at);
    free(c);
}

/* Does all that can be done for a connection now. Events come once for each change. */
static void drive(struct connection *c)
{
    while (c->state != DELAYED) {
        if (c->state == SENDING) {
            ssize_t n = transmit(c, c->out.at + c->sent, c->out.length - c->sent);
            if (n < 0 && errno == EAGAIN)
                return;
            if (n < 0)
                c->state = CLOSED;
            else if ((c->sent += n) == c->out.length)
                c->state = c->interim ? BODY : c->close_after ? CLOSED : HEAD;
        } else if (c->state == CLOSED) {
            destroy(c);
            return;
        } else if (c->again) {
            struct text held = c->held;
            c->held = (struct text){0};
            c->again = false;
            feed(c, held.at, held.length);
            free(held.at);
        } else if (c->readable) {
            struct text held = c->held;
            char *block = c->thread->block;
            ssize_t n = receive(c, block + held.length, BLOCK - held.length);
            if (n > 0) {
                /* Few bytes mean that there are no more, unless the other side has closed. */
                if (!c->hung_up && (size_t)n < BLOCK - held.length)
                    c->readable = false;
#ifdef TLS
                c->readable |= c->tls != NULL;
#endif
                memcpy(block, held.at ? held.at : "", held.length);
                c->held.length = 0;
                feed(c, block, held.length + n);
            } else if (n < 0 && errno == EAGAIN)
                c->readable = false;
            else
                c->state = CLOSED;
        } else
            return;
    }
}

static void adopt(struct thread *t, int descriptor)
{
    struct connection *c = must(calloc(1, sizeof *c));
    c->descriptor = descriptor;
    c->thread = t;
#ifdef TLS
    if (tls_context) {
        c->tls = must(SSL_new(tls_context));
        SSL_set_fd(c->tls, descriptor);
        SSL_set_accept_state(c->tls);
    }
#endif
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = c}};
    if (connect_delay)
        delay(&t->newcomers, c, connect_delay);
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, descriptor, &event))
        die("epoll_ctl");
}

static void welcome(void)
{
    static unsigned turn;
    int descriptor, one = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        uint64_t open = ++open_now;
        connections++;
        if (open > most_open)
            most_open = open;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct thread *t = &threads[turn++ % thread_count];
        if (t == threads)
            adopt(t, descriptor);
        else if (write(t->mailbox[1], &descriptor, sizeof descriptor) != sizeof descriptor)
            die("mailbox");
    }
}

static void wake_due(struct queue *queue)
{
    uint64_t time = now();
    while (queue->first && queue->first->due <= time) {
        struct connection *c = queue->first;
        if (!(queue->first = c->next))
            queue->last = NULL;
        c->state = c->out.length > c->sent ? SENDING : HEAD;
        drive(c);
    }
}

static void arm(struct thread *t)
{
    uint64_t due = t->responses.first ? t->responses.first->due : 0;
    if (t->newcomers.first && (!due || t->newcomers.first->due < due))
        due = t->newcomers.first->due;
    if (due == t->armed)
        return;
    t->armed = due;
    struct itimerspec at = {.it_value = {due / 1000000000, due % 1000000000}};
    timerfd_settime(t->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* --- commands --------------------------------------------------------------------------------- */

/* counts: one line of JSON. objects: a line for each, `size sum nanoseconds name`, with an empty
   line after them. forget: removes all objects, sets all counts to nothing; says `done`. */
static void command(const char *line)
{
    size_t count;
    pthread_mutex_lock(&lock);
    if (!strcmp(line, "counts")) {
        struct rusage used;
        getrusage(RUSAGE_SELF, &used);
        printf("{\"requests\": %" PRIu64 ", \"puts\": %" PRIu64 ", \"heads\": %" PRIu64
               ", \"errors\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"connections\": %" PRIu64
               ", \"most_connections\": %" PRIu64 ", \"objects\": %zu, \"unfinished\": %zu"
               ", \"cpu_seconds\": %.6f}\n",
               requests, puts_, heads, errors, bytes, connections, most_open, objects.live,
               uploads.live,
               used.ru_utime.tv_sec + used.ru_stime.tv_sec +
                   (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    } else if (!strcmp(line, "objects")) {
        struct entry **found = sorted(&objects, "", 0, &count);
        struct text text = {0};
        for (size_t i = 0; i < count; i++) {
            struct entry *e = found[i];
            print(&text, "%" PRIu64 " %" PRIu64 " %" PRIu64 " ", e->size, e->sum, e->time);
            append_quoted(&text, e->name, e->length, true);
            append(&text, "\n", 1);
        }
        append(&text, "\n", 1);
        fwrite(text.at, 1, text.length, stdout);
        free(text.at);
        free(found);
    } else if (!strcmp(line, "forget")) {
        struct entry **found = sorted(&objects, "", 0, &count);
        for (size_t i = 0; i < count; i++)
            take_out(&objects, found[i]->name, found[i]->length);
        free(found);
        requests = puts_ = heads = errors = bytes = connections = 0;
        most_open = open_now;
        puts("done");
    } else
        puts("unknown");
    pthread_mutex_unlock(&lock);
    fflush(stdout);
}

static void read_commands(void)
{
    static char line[256];
    static size_t length;
    char read_here[256];
    ssize_t n = read(STDIN_FILENO, read_here, sizeof read_here);
    if (n <= 0)
        exit(0);
    for (ssize_t i = 0; i < n; i++) {
        if (read_here[i] != '\n') {
            if (length < sizeof line - 1)
                line[length++] = read_here[i];
            continue;
        }
        line[length] = 0;
        length = 0;
        command(line);
    }
}

static void *serve(void *argument)
{
    struct thread *t = argument;
    struct epoll_event events[EVENTS];
    for (;;) {
        arm(t);
        int count = epoll_wait(t->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *source = events[i].data.ptr;
            uint64_t ticks;
            int descriptor;
            if (source == &listener)
                welcome();
            else if (source == &t->timer) {
                if (read(t->timer, &ticks, sizeof ticks) > 0)
                    t->armed = 0;
            } else if (source == &t->mailbox) {
                while (read(t->mailbox[0], &descriptor, sizeof descriptor) == sizeof descriptor)
                    adopt(t, descriptor);
            } else if (source == stdin)
                read_commands();
            else {
                struct connection *c = source;
                c->readable = true;
                if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                    c->hung_up = true;
                drive(c);
            }
        }
        wake_due(&t->responses);
        wake_due(&t->newcomers);
    }
    return NULL;
}

static void watch(struct thread *t, int descriptor, void *source)
{
    struct epoll_event event = {EPOLLIN, {.ptr = source}};
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, descriptor, &event))
        die("epoll_ctl");
}

static void prepare(struct thread *t)
{
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    t->block = must(malloc(BLOCK));
    if (t->epoll < 0 || t->timer < 0 || pipe2(t->mailbox, O_NONBLOCK | O_CLOEXEC))
        die("thread");
    watch(t, t->timer, &t->timer);
    watch(t, t->mailbox[0], &t->mailbox);
}

static int listen_on(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    socklen_t length = sizeof address;
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &length))
        die(port);
    return ntohs(address.sin_port);
}

static void use_certificate(const char *path)
{
#ifdef TLS
    if (!tls_context)
        tls_context = must(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Clients that just close lose no answer. */
    SSL_CTX_set_options(tls_context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (SSL_CTX_use_certificate_chain_file(tls_context, path) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_context, path, SSL_FILETYPE_PEM) != 1)
        die(path);
#else
    errno = ENOTSUP;
    die(path);
#endif
}

static uint64_t milliseconds(const char *text)
{
    return (uint64_t)(atof(text) * 1e6);
}

int main(int count, char **words)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},     {"bucket", required_argument, NULL, 'b'},
        {"latency", required_argument, NULL, 'l'},  {"connect-latency", required_argument, NULL, 'c'},
        {"threads", required_argument, NULL, 't'},  {"certificate", required_argument, NULL, 's'},
        {0}};
    const char *port = "0";
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (option) {
        case 'p': port = optarg; break;
        case 'b': put(&buckets, optarg, strlen(optarg)); break;
        case 'l': response_delay = milliseconds(optarg); break;
        case 'c': connect_delay = milliseconds(optarg); break;
        case 't': thread_count = atoi(optarg); break;
        case 's': use_certificate(optarg); break;
        default: return 2;
        }
    }
    if (thread_count < 1 || thread_count > MOST_THREADS || optind < count) {
        errno = EINVAL;
        die("threads, or words that are no options");
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    int bound = listen_on(port);
    for (int i = 0; i < thread_count; i++)
        prepare(&threads[i]);
    watch(threads, listener, &listener);
    watch(threads, STDIN_FILENO, stdin);
    for (int i = 1; i < thread_count; i++)
        if ((errno = pthread_create(&threads[i].id, NULL, serve, &threads[i])))
            die("thread");
    printf("{\"port\": %d}\n", bound);
    fflush(stdout);
    serve(threads);
}
