/*
 * Millpond's SDK for C: sends records to a Millpond broker (or any that speaks Kafka) over QUIC, TLS or
 * TCP. Link with libmillpond_c.a or libmillpond_c.so.
 *
 * One thread of its own for each producer, and nothing else that you see: no signals, no globals, no
 * callbacks from other threads. All functions may be called from any thread; a pointer must not be used
 * during or after its mp_..._free. Strings are UTF-8 and end with a zero byte.
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

/* What functions return. */
enum {
    MP_OK = 0,
    MP_FULL = 1,          /* too much is waiting: take reports, then try again */
    MP_TIMED_OUT = 2,     /* the time given is over */
    MP_INVALID = 3,       /* an argument makes no sense; nothing was done */
    MP_CLOSED = 4,        /* the producer has ended */
    MP_UNKNOWN_NAME = 5,  /* there is no such setting */
    MP_BROKEN = 6         /* a defect of the library: give the producer up */
};

/* What became of a record. */
enum {
    MP_DELIVERED = 0,     /* the broker has it; with a spill: it is on this device's storage */
    MP_FAILED = 1,        /* it is not written; sending it again is safe */
    MP_IN_DOUBT = 2       /* it may be written */
};

typedef struct mp_config mp_config;
typedef struct mp_producer mp_producer;

/*
 * Settings, by name:
 *   bootstrap      millpond://, quic://, tls:// or tcp://HOST:PORT, several separated by commas; needed
 *   fingerprint    SHA-256 of the broker's certificate, in hexadecimal
 *   ca_pem         the authority's certificates, as PEM text (not a file's name)
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
    const char *topic;
    const void *key;      /* NULL: none */
    size_t key_bytes;
    const void *value;    /* NULL: none, a tombstone */
    size_t value_bytes;
    int32_t partition;    /* MP_ANY_PARTITION: by the key, or any */
    int64_t timestamp_ms; /* since 1970; MP_NOW: now */
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
    char error[MP_ERROR_BYTES]; /* empty when it was delivered */
} mp_report;

/* A descriptor that is readable while reports wait. Poll it, never read from it, never close it. */
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

#ifdef __cplusplus
}
#endif

#endif
