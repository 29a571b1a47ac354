//! kcat: listing, producing, consuming, groups and offset queries, as typed at a shell. Never
//! skipped: where kcat is missing the tests fail, with the command that installs it.

use millpond_tests::broker::Broker;
use millpond_tests::clients::kcat;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn what_is_piped_in_is_printed_out_and_listed() {
    let broker = Broker::start();
    kcat(&broker, &["-P", "-t", "lines"], b"one\ntwo\nthree\n").expect_success();
    let read = kcat(&broker, &["-C", "-t", "lines", "-o", "beginning", "-e", "-q"], b"");
    assert_eq!(lines(&read.expect_success()), ["one", "two", "three"]);
    let listed = kcat(&broker, &["-L"], b"").expect_success();
    assert!(listed.contains("topic \"lines\" with 1 partitions"), "{listed}");
    assert!(listed.contains("1 brokers"), "{listed}");
    assert!(listed.contains(&broker.bootstrap()), "the advertised address: {listed}");
}

#[test]
fn keys_headers_and_offsets_are_shown_as_sent() {
    let broker = Broker::start();
    let produce = ["-P", "-t", "keyed", "-K", "|", "-H", "site=north"];
    kcat(&broker, &produce, b"pump-1|20.5\npump-2|21\n").expect_success();
    let consume = ["-C", "-t", "keyed", "-o", "beginning", "-e", "-q", "-f", "%o %k %s %h\\n"];
    let read = kcat(&broker, &consume, b"").expect_success();
    assert_eq!(lines(&read), ["0 pump-1 20.5 site=north", "1 pump-2 21 site=north"]);
}

#[test]
fn every_codec_that_kcat_knows_comes_back() {
    let broker = Broker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        let input: String = (0..500).map(|i| format!("reading {i} of the same pump\n")).collect();
        kcat(&broker, &["-P", "-t", &topic, "-z", codec], input.as_bytes()).expect_success();
        let read = kcat(&broker, &["-C", "-t", &topic, "-o", "beginning", "-e", "-q"], b"");
        assert_eq!(lines(&read.expect_success()), lines(&input), "{codec}");
    }
}

#[test]
fn a_group_reads_each_record_once_over_two_runs() {
    let broker = Broker::start();
    kcat(&broker, &["-P", "-t", "work"], b"a\nb\nc\n").expect_success();
    let group = ["-G", "workers", "-X", "auto.offset.reset=earliest", "-e", "-q", "work"];
    let first = kcat(&broker, &group, b"").expect_success();
    assert_eq!(lines(&first), ["a", "b", "c"]);
    kcat(&broker, &["-P", "-t", "work"], b"d\n").expect_success();
    let second = kcat(&broker, &group, b"").expect_success();
    assert_eq!(lines(&second), ["d"]);
}

#[test]
fn offsets_are_queried_by_place_and_by_time() {
    let broker = Broker::start();
    kcat(&broker, &["-P", "-t", "dated"], b"a\nb\nc\n").expect_success();
    let end = kcat(&broker, &["-Q", "-t", "dated:0:-1"], b"").expect_success();
    assert!(end.contains("offset 3"), "{end}");
    let start = kcat(&broker, &["-Q", "-t", "dated:0:-2"], b"").expect_success();
    assert!(start.contains("offset 0"), "{start}");
    let since_1970 = kcat(&broker, &["-Q", "-t", "dated:0:1"], b"").expect_success();
    assert!(since_1970.contains("offset 0"), "{since_1970}");
}

#[test]
fn a_partition_that_does_not_exist_is_refused_with_words() {
    let broker = Broker::start();
    kcat(&broker, &["-P", "-t", "narrow"], b"a\n").expect_success();
    let said = kcat(&broker, &["-P", "-t", "narrow", "-p", "7"], b"b\n").expect_failure();
    assert!(said.to_lowercase().contains("partition"), "{said}");
}
