/*
 * Reads numbered readings from an event loop (poll) and commits them, until it has seen COUNT.
 *
 *     receive BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 *
 * cc receive.c -I.. -L... -lmillpond_c -lpthread -ldl -lm
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "millpond_client.h"

static int set_all(mp_config *config, int count, char **settings) {
    for (int at = 0; at < count; at++) {
        char *equals = strchr(settings[at], '=');
        if (equals == NULL) {
            return MP_INVALID;
        }
        *equals = '\0';
        int outcome = mp_config_set(config, settings[at], equals + 1);
        if (outcome != MP_OK) {
            fprintf(stderr, "%s: there is no such setting\n", settings[at]);
            return outcome;
        }
    }
    return MP_OK;
}

/* Adds up what has come; how many records that were. Negative: it went wrong. */
static long take(mp_consumer *consumer, long long *sum) {
    mp_batch *batch = NULL;
    mp_error error;
    int outcome = mp_consumer_poll(consumer, 0, &batch, &error);
    if (outcome == MP_TIMED_OUT) {
        return 0;
    }
    if (outcome != MP_OK) {
        fprintf(stderr, "poll: %s\n", error.text);
        return error.is_retriable ? 0 : -1;
    }
    long count = (long)mp_batch_count(batch);
    const mp_message *messages = mp_batch_messages(batch);
    for (long at = 0; at < count; at++) {
        char text[32] = {0};
        size_t bytes = messages[at].value_bytes;
        memcpy(text, messages[at].value, bytes < sizeof text ? bytes : sizeof text - 1);
        *sum += strtoll(text, NULL, 10);
    }
    mp_batch_free(batch);
    return count;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: receive BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]\n");
        return 2;
    }
    mp_config *config = mp_config_new();
    mp_config_set(config, "bootstrap", argv[1]);
    mp_config_set(config, "offset_reset", "earliest");
    if (set_all(config, argc - 4, argv + 4) != MP_OK) {
        return 2;
    }
    char reason[MP_ERROR_BYTES];
    mp_consumer *consumer = mp_consumer_new(config, reason, sizeof reason);
    mp_config_free(config);
    if (consumer == NULL) {
        fprintf(stderr, "%s\n", reason);
        return 1;
    }
    mp_error error;
    const char *topics[] = {argv[2]};
    if (mp_subscribe(consumer, topics, 1, &error) != MP_OK) {
        fprintf(stderr, "%s\n", error.text);
        mp_consumer_free(consumer);
        return 1;
    }

    long wanted = strtol(argv[3], NULL, 10), seen = 0;
    long long sum = 0;
    struct pollfd line = {.fd = mp_consumer_fd(consumer), .events = POLLIN};
    while (seen < wanted && poll(&line, 1, 30000) > 0) {
        long more = take(consumer, &sum);
        if (more < 0) {
            break;
        }
        seen += more;
        if (more > 0 && mp_commit(consumer, NULL, 0, 10000, &error) != MP_OK) {
            fprintf(stderr, "commit: %s\n", error.text);
        }
    }
    printf("received %ld sum %lld\n", seen, sum);
    int closed = mp_consumer_close(consumer, 10000, &error);
    mp_consumer_free(consumer);
    return seen == wanted && closed == MP_OK ? 0 : 1;
}
