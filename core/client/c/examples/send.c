/*
 * Sends numbered readings and tells what became of each, from an event loop (poll).
 *
 *     send BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 *
 * cc send.c -I.. -L... -lmillpond_c -lpthread -ldl -lm
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "millpond_client.h"

#define REPORTS 64

struct totals {
    long delivered;
    long failed;
    long long last_offset;
};

static void take_reports(mp_producer *producer, struct totals *totals) {
    mp_report reports[REPORTS];
    size_t count;
    while ((count = mp_poll(producer, reports, REPORTS)) > 0) {
        for (size_t at = 0; at < count; at++) {
            long number = *(long *)reports[at].tag;
            free(reports[at].tag);
            if (reports[at].status == MP_DELIVERED) {
                totals->delivered++;
                if (reports[at].offset > totals->last_offset) {
                    totals->last_offset = reports[at].offset;
                }
            } else {
                totals->failed++;
                fprintf(stderr, "reading %ld: %s\n", number, reports[at].error);
            }
        }
    }
}

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

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: send BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]\n");
        return 2;
    }
    mp_config *config = mp_config_new();
    mp_config_set(config, "bootstrap", argv[1]);
    if (set_all(config, argc - 4, argv + 4) != MP_OK) {
        return 2;
    }
    char error[MP_ERROR_BYTES];
    mp_producer *producer = mp_producer_new(config, error, sizeof error);
    mp_config_free(config);
    if (producer == NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }

    long count = strtol(argv[3], NULL, 10);
    struct totals totals = {0, 0, -1};
    struct pollfd line = {.fd = mp_fd(producer), .events = POLLIN};
    for (long number = 0; number < count;) {
        char value[32];
        mp_record record = {0};
        record.topic = argv[2];
        record.key = "pump";
        record.key_bytes = 4;
        record.value = value;
        record.value_bytes = (size_t)snprintf(value, sizeof value, "%ld", number);
        record.partition = MP_ANY_PARTITION;
        record.timestamp_ms = MP_NOW;
        long *tag = malloc(sizeof *tag);
        *tag = number;
        int outcome = mp_send(producer, &record, tag);
        if (outcome == MP_OK) {
            number++;
            continue;
        }
        free(tag);
        if (outcome != MP_FULL) {
            fprintf(stderr, "mp_send: %d\n", outcome);
            break;
        }
        poll(&line, 1, -1);
        take_reports(producer, &totals);
    }
    while (totals.delivered + totals.failed < count && poll(&line, 1, 30000) > 0) {
        take_reports(producer, &totals);
    }

    mp_metrics metrics;
    mp_producer_metrics(producer, &metrics);
    printf("delivered %ld failed %ld last_offset %lld accepted %llu\n", totals.delivered,
           totals.failed, totals.last_offset, (unsigned long long)metrics.accepted);
    mp_producer_free(producer);
    return totals.delivered == count ? 0 : 1;
}
