//! What `millpond doctor` says of the certificates of a running node, from what the node tells of them. Must never
//! open a certificate itself.

use crate::metrics::scrape::Scrape;

/// What is found, and whether something is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) is_trouble: bool,
    pub(super) text: String,
}

/// A certificate that ends within so many days is to be renewed.
const SOON_DAYS: i64 = 30;

/// Looks at every listener; nothing where no listener has certificates.
pub(super) fn findings(scrape: &Scrape, now_s: u64) -> Vec<Expiry> {
    let mut found = Vec::new();
    let mut find = |is_trouble, text| found.push(Expiry { is_trouble, text });
    let answers = scrape.sum("millpond_build_info", &[]) > 0.0;
    if answers && scrape.sum("millpond_clock_set", &[]) < 1.0 {
        find(true, "the node's clock is not set: it is before a time that was once".to_owned());
    }
    const ENDS: &str = "millpond_certificate_not_after_timestamp_seconds";
    let kinds = scrape.by(ENDS, "kind").into_iter();
    for ((listener, ends_s), (kind, _)) in scrape.by(ENDS, "listener").into_iter().zip(kinds) {
        #[allow(clippy::cast_possible_truncation)] // Saturates.
        let left_s = ends_s as i64 - i64::try_from(now_s).unwrap_or(i64::MAX);
        let days = left_s.div_euclid(86_400);
        let what = format!("the {kind} certificate of listener {listener}");
        match days {
            ..0 => find(true, format!("{what} has ended")),
            0..SOON_DAYS => find(true, format!("{what} ends in {days} days: renew it")),
            _ => find(false, format!("{what} is good for {days} days")),
        }
    }
    for (listener, is_stale) in scrape.by("millpond_certificate_files_stale", "listener") {
        if is_stale > 0.0 {
            let text = "are damaged: those of before are in force, and the log says why";
            find(true, format!("the certificate files of listener {listener} {text}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_near_their_end_damaged_files_and_a_lost_clock_are_trouble() {
        let now_s = 1_800_000_000;
        let text = format!(
            "millpond_build_info{{version=\"1\"}} 1\nmillpond_clock_set 0\n\
             millpond_certificate_not_after_timestamp_seconds{{listener=\"a\",kind=\"server\"}} {}\n\
             millpond_certificate_not_after_timestamp_seconds{{listener=\"a\",kind=\"client_ca\"}} {}\n\
             millpond_certificate_not_after_timestamp_seconds{{listener=\"b\",kind=\"server\"}} {}\n\
             millpond_certificate_files_stale{{listener=\"a\"}} 0\n\
             millpond_certificate_files_stale{{listener=\"b\"}} 1\n",
            now_s + 29 * 86_400,
            now_s + 31 * 86_400,
            now_s - 1,
        );
        let found = findings(&Scrape::parse(&text), now_s);
        let said: Vec<(bool, &str)> =
            found.iter().map(|one| (one.is_trouble, one.text.as_str())).collect();
        assert_eq!(said.len(), 5, "{said:?}");
        assert!(said[0].0 && said[0].1.contains("clock"));
        assert_eq!(
            said[1],
            (true, "the server certificate of listener a ends in 29 days: renew it")
        );
        assert_eq!(said[2], (false, "the client_ca certificate of listener a is good for 31 days"));
        assert_eq!(said[3], (true, "the server certificate of listener b has ended"));
        assert!(said[4].0 && said[4].1.contains("listener b"));
        assert_eq!(findings(&Scrape::parse(""), now_s), []);
    }
}
