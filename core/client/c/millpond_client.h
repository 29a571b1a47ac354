/*
 * Millpond's SDK for C: sends records to a Millpond broker (or any that speaks Kafka), and reads them,
 * over QUIC, TLS or TCP. Link with libmillpond_c.a (and -Wl,--gc-sections, which leaves out what you do
 * not call) or libmillpond_c.so.
 *
 * One thread of its own for each producer and each consumer, and nothing else that you see: no signals,
 * no globals, no callbacks from other threads. All functions may be called from any thread; a pointer
 * must not be used during or after its mp_..._free. Null pointers are answered with MP_INVALID, 0, -1 or
 * NULL. Strings are UTF-8 and end with a zero byte. A negative time means for ever.
 *
 *     mp_config *config = mp_config_new();
 *     mp_config_set(config, "bootstrap", "millpond://10.0.0.1:9092");
 *     mp_config_set(config, "fingerprint", "9F:86:...");
 *     char error[MP_ERROR_BYTES];
 *     mp_producer *producer = mp_producer_new(config, error, sizeof error);
 *     mp_config_free(config);
 *     mp_record record = {0};
 *     record.topic = "telemetry";
 *     record.value = "21.5";
 *     record.value_bytes = 4;
 *     record.partition = MP_ANY_PARTITION;
 *     record.timestamp_ms = MP_NOW;
 *     if (mp_send(producer, &record, NULL) == MP_FULL) { ... take reports, then try again ... }
 *
 * With an event loop: wait until mp_fd() is readable, then call mp_poll() until it returns 0.
 * Without one: mp_wait(), then mp_poll().
 *
 *     const char *topics[] = {"telemetry"};
 *     mp_config_set(config, "group", "dashboards");
 *     mp_consumer *consumer = mp_consumer_new(config, error, sizeof error);
 *     mp_subscribe(consumer, topics, 1, NULL);
 *     mp_batch *batch;
 *     while (mp_consumer_poll(consumer, 1000, &batch, NULL) != MP_CLOSED) {
 *         for (size_t at = 0; at < mp_batch_count(batch); at++) { ... mp_batch_messages(batch)[at] ... }
 *         mp_batch_free(batch);
 *         mp_commit(consumer, NULL, 0, 10000, NULL);
 *     }
 *
 * With an event loop: wait until mp_consumer_fd() is readable, then poll with a time of 0, once.
 */
#ifndef MILLPOND_CLIENT_H
#define MILLPOND_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MP_ERROR_BYTES 256
#define MP_ANY_PARTITION (-1)
#define MP_NOW (-1)
#define MP_NO_OFFSET (-1)
/* Places to seek to, instead of an offset. */
#define MP_END (-1)
#define MP_BEGINNING (-2)

/* What functions return. */
enum {
    MP_OK = 0,
    MP_FULL = 1,          /* too much is waiting: take reports, then try again */
    MP_TIMED_OUT = 2,     /* the time given is over */
    MP_INVALID = 3,       /* an argument makes no sense; nothing was done */
    MP_CLOSED = 4,        /* the producer or consumer has ended */
    MP_UNKNOWN_NAME = 5,  /* there is no such setting */
    MP_BROKEN = 6,        /* a defect of the library: give the producer or consumer up */
    MP_REFUSED = 7,       /* the broker or the network said no: the mp_error says what, and whether to
                             try again */
    MP_SPOILT = 8,        /* something of the transaction was not delivered: abort it */
    MP_FENCED = 9         /* another has the transactional id, or it took too long: give the producer up */
};

/* What became of a record. */
enum {
    MP_DELIVERED = 0,     /* the broker has it; with a spill: it is on this device's storage */
    MP_FAILED = 1,        /* it is not written; sending it again is safe */
    MP_IN_DOUBT = 2       /* it may be written */
};

typedef struct mp_config mp_config;
typedef struct mp_producer mp_producer;
typedef struct mp_consumer mp_consumer;
typedef struct mp_batch mp_batch;
typedef struct mp_places mp_places;

/* What went wrong. Where a function takes one, NULL is fine. */
typedef struct {
    int32_t code;         /* Kafka's error code, where the broker refused; else 0 */
    int32_t is_retriable; /* 1: the same may succeed later */
    char text[MP_ERROR_BYTES];
} mp_error;

/*
 * Settings, by name:
 *   bootstrap      millpond://, quic://, tls:// or tcp://HOST:PORT, several separated by commas; needed
 *   fingerprint    SHA-256 of the broker's certificate, in hexadecimal
 *   ca_pem         the authority's certificates, as PEM text (not a file's name)
 *   certificate_pem, private_key_pem
 *                  what this client shows where it is asked for a certificate, as PEM text
 *   client_id      how the broker names this client
 *   mechanism      PLAIN, SCRAM-SHA-256 (the default) or SCRAM-SHA-512; with user and password
 *   user, password
 *   compression    none, gzip, snappy, lz4 or zstd
 *   linger_ms, batch_bytes, buffer_bytes, delivery_timeout_ms, connect_timeout_ms
 *   congestion     what QUIC sends by: bbr (the default), cubic or newreno
 *   keep_alive_ms  how often a quiet QUIC connection keeps NAT open (8000); 0: never
 *   spill_dir      a directory: records go to storage there first and survive a power cut
 *   spill_bytes    the spill's room
 *   spill_full     refuse (the default) or drop_oldest
 *   transactional_id
 *                  the name under which transactions outlive this program
 *   transaction_timeout_ms
 * Of a consumer:
 *   group          whose members share the partitions, and which remembers offsets
 *   group_protocol auto (the default), consumer (KIP-848) or classic
 *   offset_reset   where to begin without a committed offset: latest (the default), earliest or fail
 *   read_committed true: records of transactions only once those are committed
 *   auto_commit_ms how often a poll commits what earlier ones returned; without it nothing is committed
 *                  by itself
 *   max_poll_records, fetch_wait_ms
 *   rebalance_timeout_ms
 */
mp_config *mp_config_new(void);
int mp_config_set(mp_config *config, const char *name, const char *value);
void mp_config_free(mp_config *config);

/*
 * A producer with these settings, which may be freed afterwards. It does not wait for the broker. NULL:
 * error holds the reason.
 */
mp_producer *mp_producer_new(const mp_config *config, char *error, size_t error_bytes);

/*
 * Ends it at once, and frees it; what is not reported by then is not reported (call mp_flush first).
 */
void mp_producer_free(mp_producer *producer);

typedef struct {
    const char *name;
    const void *value;    /* NULL: none */
    size_t value_bytes;
} mp_header;

typedef struct {
    const char *topic;
    const void *key;      /* NULL: none */
    size_t key_bytes;
    const void *value;    /* NULL: none, a tombstone */
    size_t value_bytes;
    int32_t partition;    /* MP_ANY_PARTITION: by the key, or any */
    int64_t timestamp_ms; /* since 1970; MP_NOW: now */
    const mp_header *headers; /* NULL: none */
    size_t header_count;
} mp_record;

/*
 * Takes a record, whose bytes are copied, and returns at once. MP_OK: there will be one report with this
 * tag. MP_FULL: take reports, then try again.
 */
int mp_send(mp_producer *producer, const mp_record *record, void *tag);

typedef struct {
    void *tag;            /* what mp_send was given */
    int32_t status;       /* MP_DELIVERED, MP_FAILED or MP_IN_DOUBT */
    int32_t partition;    /* -1 where it is not known */
    int64_t offset;       /* MP_NO_OFFSET where there is none to tell */
    int64_t timestamp_ms;
    int32_t code;         /* Kafka's error code, where the broker refused; else 0 */
    char error[MP_ERROR_BYTES]; /* empty when it was delivered */
} mp_report;

/* A descriptor that is readable while reports, or the end of a step of a transaction, wait. Poll it, never read from it, never close it. */
int mp_fd(const mp_producer *producer);

/* Moves up to max reports that wait into reports; never blocks. Returns how many. */
size_t mp_poll(mp_producer *producer, mp_report *reports, size_t max);

/* Waits until a report waits. A negative time: for ever. */
int mp_wait(mp_producer *producer, int timeout_ms);

/* Waits until every record that was taken has its report, whether or not that was polled. */
int mp_flush(mp_producer *producer, int timeout_ms);

typedef struct {
    uint64_t accepted;    /* records that mp_send took */
    uint64_t delivered;
    uint64_t failed;      /* in doubt ones too */
    uint64_t waiting;     /* without a report; with a spill: on their way to the broker as well */
} mp_metrics;

int mp_producer_metrics(const mp_producer *producer, mp_metrics *metrics);

/*
 * Transactions, with the setting transactional_id: begin, mp_send, then commit (which waits for all
 * deliveries) or abort. MP_TIMED_OUT: the step goes on; call the same again to wait for its end. With an
 * event loop: a time of 0, then the same call again when mp_fd() is readable. One step at a time.
 */
int mp_transaction_begin(mp_producer *producer, int timeout_ms, mp_error *error);
int mp_transaction_commit(mp_producer *producer, int timeout_ms, mp_error *error);
int mp_transaction_abort(mp_producer *producer, int timeout_ms, mp_error *error);

/* A partition, and an offset where that matters. */
typedef struct {
    const char *topic;
    int64_t offset;
    int32_t partition;
} mp_place;

/*
 * Makes the consumer's offsets part of the transaction: those given, the next to be read each, or with
 * NULL all that polls have returned. The consumer must not commit them itself.
 */
int mp_transaction_offsets(mp_producer *producer, mp_consumer *consumer, const mp_place *places,
                           size_t count, int timeout_ms, mp_error *error);

/* A consumer with these settings, which may be freed afterwards. NULL: error holds the reason. */
mp_consumer *mp_consumer_new(const mp_config *config, char *error, size_t error_bytes);

/*
 * Ends it at once, and frees it: its group notices only by its silence (call mp_consumer_close first).
 * Batches and places that it returned stay until they are freed themselves.
 */
void mp_consumer_free(mp_consumer *consumer);

/*
 * What to read from now on: topics, shared with the group if there is one, or partitions (whose offsets
 * are not looked at), without a group. Who read something else before leaves that.
 */
int mp_subscribe(mp_consumer *consumer, const char *const *topics, size_t count, mp_error *error);
int mp_assign(mp_consumer *consumer, const mp_place *places, size_t count, mp_error *error);

typedef struct {
    const char *topic;
    const void *key;      /* NULL: none */
    size_t key_bytes;
    const void *value;    /* NULL: none, a tombstone */
    size_t value_bytes;
    const mp_header *headers;
    size_t header_count;
    int64_t offset;
    int64_t timestamp_ms; /* since 1970 */
    int32_t partition;
} mp_message;

/*
 * The next records. MP_OK: *batch holds them until mp_batch_free. Anything else: it is NULL, and
 * MP_TIMED_OUT says that there were none. Between two calls the consumer stays in its group by itself.
 */
int mp_consumer_poll(mp_consumer *consumer, int timeout_ms, mp_batch **batch, mp_error *error);
size_t mp_batch_count(const mp_batch *batch);
const mp_message *mp_batch_messages(const mp_batch *batch);
void mp_batch_free(mp_batch *batch);

/* A descriptor that is readable while a poll would return something. Never read from it, never close it. */
int mp_consumer_fd(const mp_consumer *consumer);

/* Remembers for the group the offsets given, the next to be read each, or with NULL all that polls have
 * returned. */
int mp_commit(mp_consumer *consumer, const mp_place *places, size_t count, int timeout_ms,
              mp_error *error);

/* Goes to the offsets given, or in all places to MP_BEGINNING or MP_END, or to a time (ms since 1970). */
int mp_seek(mp_consumer *consumer, const mp_place *places, size_t count, int timeout_ms,
            mp_error *error);
int mp_seek_time(mp_consumer *consumer, const mp_place *places, size_t count, int64_t timestamp_ms,
                 int timeout_ms, mp_error *error);

/* Holds partitions back while the others flow, and lets them flow again. */
int mp_pause(mp_consumer *consumer, const mp_place *places, size_t count, mp_error *error);
int mp_resume(mp_consumer *consumer, const mp_place *places, size_t count, mp_error *error);

/* The partitions that are read now, with the offset that a poll returns next (MP_NO_OFFSET: not known
 * yet); or those given, with what the group has committed. Freed with mp_places_free. */
int mp_positions(mp_consumer *consumer, mp_places **list, mp_error *error);
int mp_committed(mp_consumer *consumer, const mp_place *places, size_t count, int timeout_ms,
                 mp_places **list, mp_error *error);
size_t mp_places_count(const mp_places *list);
const mp_place *mp_places_at(const mp_places *list);
void mp_places_free(mp_places *list);

/*
 * Commits (with auto_commit_ms) and leaves the group, so that the others go on at once. From then on
 * everything but mp_consumer_free answers MP_CLOSED.
 */
int mp_consumer_close(mp_consumer *consumer, int timeout_ms, mp_error *error);

#ifdef __cplusplus
}
#endif

#endif
