//! Java programs of `clients/java`: compiled against the jars of a profile of its pom.xml, and ready
//! to run. Must not skip: a missing JDK or jar fails, with the command that installs it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::scratch;
use crate::clients::{home, on_path, require};
use crate::command::Program;
use crate::running::Running;

const COMPILE_TIME: Duration = Duration::from_secs(180);

/// For programs that live for seconds: the second compiler and a collector with threads cost more
/// than they give.
const FLAGS: [&str; 3] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"];

/// What SLF4J is told, where a profile has its simple logger.
const LOGGING: [&str; 3] = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];

/// Classes that were compiled anew: one that is older than its source never runs.
pub struct Classes {
    compiled: TempDir,
    jars: PathBuf,
}

impl Classes {
    /// `jars` is a profile of the pom, `classes` are files beside it.
    #[track_caller]
    pub fn compile(jars: &str, classes: &[&str]) -> Classes {
        let dir = home().join("java/target").join(jars);
        require(dir.is_dir(), &format!("the jars of Kafka ({jars})"));
        let classes_dir = scratch();
        let compiled = Classes { compiled: classes_dir, jars: dir };
        let into = compiled.compiled.path().as_os_str().to_owned();
        let jars = compiled.jars.join("*").into_os_string();
        let words = ["-nowarn".into(), "-d".into(), into, "-cp".into(), jars];
        let sources = classes.iter().map(|class| home().join(format!("java/{class}.java")));
        let words = words.into_iter().chain(sources.map(PathBuf::into_os_string));
        Program::new(on_path("javac"), words).run(COMPILE_TIME).expect_success();
        compiled
    }

    /// No class of our own: a `main` that is in the jars.
    #[track_caller]
    pub fn of_jars(jars: &str) -> Classes {
        let dir = home().join("java/target").join(jars);
        require(dir.is_dir(), &format!("the jars of Kafka ({jars})"));
        Classes { compiled: scratch(), jars: dir }
    }

    /// The arguments of `java` before the name of the class.
    pub fn path(&self) -> [OsString; 2] {
        let mut path = self.compiled.path().as_os_str().to_owned();
        path.push(":");
        path.push(self.jars.join("*"));
        ["-cp".into(), path]
    }

    /// Start `class` in a JVM of its own.
    #[track_caller]
    pub fn start(&self, name: &str, class: &str, words: &[&str]) -> Running {
        Running::start(name, on_path("java"), self.line(class, words))
    }

    /// Run `class` to its end; what it printed. It must succeed within `patience`.
    #[track_caller]
    pub fn run(&self, class: &str, words: &[&str], patience: Duration) -> String {
        Program::new(on_path("java"), self.line(class, words)).run(patience).expect_success()
    }

    fn line(&self, class: &str, words: &[&str]) -> Vec<OsString> {
        let flags = FLAGS.iter().chain(&LOGGING).map(OsString::from);
        let rest = [class].into_iter().chain(words.iter().copied()).map(OsString::from);
        flags.chain(self.path()).chain(rest).collect()
    }
}
