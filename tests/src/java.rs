//! The Java clients and Kafka's own tools. A set of stories is compiled against its jars and told
//! in one JVM to one broker, for a JVM starts slowly; each test then asks for the end of its own
//! story. Must not skip: a missing JDK or jar fails every story, with the command that installs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use crate::broker::Broker;
use crate::clients::on_path;
use crate::command::{Outcome, Program};
use crate::jvm::Classes;

/// All stories of a set, with the start of the JVM.
const SET_TIME: Duration = Duration::from_secs(180);

/// What goes with every set: the program that tells, and how it sees a node.
const TELLER: [&str; 2] = ["Stories", "Node"];

/// Some classes of stories, told with some jars.
pub struct Set {
    jars: &'static str,
    classes: &'static [&'static str],
    told: OnceLock<Told>,
}

/// How the stories ended.
struct Told {
    /// By name: None if the story held, else what went wrong.
    ends: BTreeMap<String, Option<String>>,
    /// What the programs printed, for a story that was not told at all.
    output: String,
}

impl Set {
    /// `jars` is a profile of `clients/java/pom.xml`, `classes` are files beside it.
    pub const fn new(jars: &'static str, classes: &'static [&'static str]) -> Set {
        Set { jars, classes, told: OnceLock::new() }
    }

    /// Panics unless the story was told and held.
    #[track_caller]
    pub fn expect(&self, story: &str) {
        let told = self.told.get_or_init(|| self.tell());
        match told.ends.get(story) {
            Some(None) => {}
            Some(Some(trouble)) => panic!("{story}, with {}:\n{trouble}", self.jars),
            None => panic!("{story} was not told with {}: {}", self.jars, told.output),
        }
    }

    /// Panics unless exactly these stories were told: one without a test would fail unseen.
    #[track_caller]
    pub fn expect_only(&self, stories: &[&str]) {
        let told = self.told.get_or_init(|| self.tell());
        let mut stories = stories.to_vec();
        stories.sort_unstable();
        let ends: Vec<&str> = told.ends.keys().map(String::as_str).collect();
        assert_eq!(ends, stories, "told with {}, and asked for", self.jars);
    }

    fn tell(&self) -> Told {
        let names: Vec<&str> = TELLER.iter().chain(self.classes).copied().collect();
        let classes = Classes::compile(self.jars, &names);
        let mut broker = Broker::start();
        let bootstrap = broker.bootstrap();
        let bell = Bell::hang();
        let bell_word = format!("-Dmillpond.bell={}", bell.address);
        // Short programs gain nothing from the second compiler of the JVM.
        let flags = ["-XX:TieredStopAtLevel=1", &bell_word].map(OsString::from);
        let words = ["Stories", &bootstrap].into_iter().chain(self.classes.iter().copied());
        let words = flags.into_iter().chain(classes.path()).chain(words.map(OsString::from));
        let program = Program::new(on_path("java"), words);
        let outcome = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let outcome = program.run(SET_TIME);
                bell.ring_the_end();
                outcome
            });
            bell.answer(&mut broker);
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let ends = ends(&outcome);
        let output = format!("{outcome}\n--- the broker's log\n{}", broker.log().tail(150));
        Told { ends, output }
    }
}

/// Where a story asks for the node to be killed and started again: it connects, writes a byte, and
/// reads it back when the node serves.
struct Bell {
    listener: TcpListener,
    address: SocketAddr,
}

const RESTART: u8 = b'r';
const END: u8 = b'e';

impl Bell {
    #[track_caller]
    fn hang() -> Bell {
        let listener = TcpListener::bind(("127.0.0.1", 0));
        match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => Bell { listener, address },
            Err(error) => panic!("no port to listen on: {error}"),
        }
    }

    /// Until the end is rung.
    fn answer(&self, broker: &mut Broker) {
        for caller in self.listener.incoming() {
            let Ok(mut caller) = caller else { continue };
            let mut wish = [0];
            match caller.read_exact(&mut wish) {
                Ok(()) if wish == [RESTART] => broker.restart(),
                Ok(()) if wish == [END] => return,
                _ => continue,
            }
            // A story that is gone by now has failed, and says so itself.
            caller.write_all(&wish).ok();
        }
    }

    fn ring_the_end(&self) {
        let rung = TcpStream::connect(self.address).and_then(|mut bell| bell.write_all(&[END]));
        if let Err(error) = rung {
            panic!("{}: {error}", self.address);
        }
    }
}

/// Read `ok NAME`, and `failed NAME` with the indented lines that follow it.
fn ends(outcome: &Outcome) -> BTreeMap<String, Option<String>> {
    let mut ends: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut last = None;
    for line in outcome.stdout.lines() {
        if let Some(name) = line.strip_prefix("ok ") {
            ends.insert(name.into(), None);
        } else if let Some(name) = line.strip_prefix("failed ") {
            ends.insert(name.into(), Some(String::new()));
            last = Some(name);
        } else if let Some(Some(trouble)) = last.and_then(|name| ends.get_mut(name)) {
            trouble.push_str(line);
            trouble.push('\n');
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_that_failed_keeps_the_lines_that_tell_why() {
        let stdout = "ok one\nfailed two\n    why\n    where\nok three\n".to_owned();
        let (line, stderr) = (String::new(), String::new());
        let ends = ends(&Outcome { line, status: None, stdout, stderr });
        assert_eq!(ends.get("one"), Some(&None));
        assert_eq!(ends.get("two"), Some(&Some("    why\n    where\n".into())));
        assert_eq!(ends.get("three"), Some(&None));
    }
}
