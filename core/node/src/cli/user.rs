//! `millpond user`. A password comes from the terminal, standard input or a file, never from the
//! command line, which others can see; what leaves this program is derived from it.

use std::io::{self, IsTerminal, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millpond_client::{NewCredential, ScramMechanism, User, UserCredential};
use millpond_security::random_bytes;
use millpond_security::sasl::{ScramHash, salted_password};
use millpond_wire::Secret;
use millpond_wire::limits::{
    DEFAULT_SCRAM_ITERATIONS, PASSWORD_BYTES_MAX, SCRAM_ITERATIONS_MAX, USER_NAME_BYTES_MAX,
};
use serde::Serialize;

use super::table::Table;
use super::{Bootstrap, CliError, text};

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// `millpond user`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond user add sensors                                asks for the password
  millpond user add sensors --password-file sensors.pw
  head -c 24 /dev/urandom | base64 | tee sensors.pw | millpond user add sensors
  millpond user list
  millpond user delete sensors

The command speaks to a listener that asks nobody who he is: keep one on 127.0.0.1.
Adding a user who is there gives him another password. Whoever is connected stays so.")]
pub(super) struct UserArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user, or give one another password.
    Add {
        /// The name.
        user: String,
        /// A mechanism the user may log in by; may be repeated [default: both, and PLAIN with
        /// them].
        #[arg(long = "mechanism", value_name = "NAME", value_parser = mechanism)]
        mechanisms: Vec<ScramMechanism>,
        /// Rounds of hashing, each of which a thief of the data directory must repeat.
        #[arg(long, default_value_t = DEFAULT_SCRAM_ITERATIONS,
              value_parser = clap::value_parser!(u32).range(
                  DEFAULT_SCRAM_ITERATIONS as i64..=SCRAM_ITERATIONS_MAX as i64))]
        iterations: u32,
        /// File with the password in its first line [default: standard input].
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List all users.
    List,
    /// Delete users. Whoever is connected stays so until its session or connection ends.
    Delete {
        /// Their names.
        #[arg(required = true)]
        users: Vec<String>,
    },
}

fn mechanism(name: &str) -> Result<ScramMechanism, String> {
    match name.to_ascii_uppercase().as_str() {
        "SCRAM-SHA-256" => Ok(ScramMechanism::SHA_256),
        "SCRAM-SHA-512" => Ok(ScramMechanism::SHA_512),
        _ => Err("write SCRAM-SHA-256 or SCRAM-SHA-512".to_owned()),
    }
}

/// Runs the command.
pub(super) async fn run(args: UserArgs, json: bool) -> Result<(), CliError> {
    let bootstrap = args.bootstrap;
    match args.command {
        UserCommand::Add { user, mut mechanisms, iterations, password_file } => {
            if user.is_empty() || user.len() > USER_NAME_BYTES_MAX {
                let most = USER_NAME_BYTES_MAX;
                return Err(CliError::usage(format!("a user's name has 1 to {most} bytes")));
            }
            if mechanisms.is_empty() {
                mechanisms = vec![ScramMechanism::SHA_256, ScramMechanism::SHA_512];
            }
            mechanisms.sort_unstable();
            mechanisms.dedup();
            let password = password(password_file.as_deref(), &user)?;
            let made = mechanisms.iter().map(|one| credential(*one, iterations, &password));
            let made = made.collect::<Result<Vec<_>, _>>()?;
            let admin = bootstrap.admin().await?;
            admin.set_user(&user, made).await.map_err(|e| bootstrap.explain(&e))?;
            said(json, "added", &user)
        }
        UserCommand::List => {
            let admin = bootstrap.admin().await?;
            show(&admin.list_users().await.map_err(|e| bootstrap.explain(&e))?, json)
        }
        UserCommand::Delete { users } => {
            let admin = bootstrap.admin().await?;
            for user in users {
                admin.delete_user(&user).await.map_err(|e| bootstrap.explain(&e))?;
                said(json, "deleted", &user)?;
            }
            Ok(())
        }
    }
}

fn said(json: bool, what: &str, user: &str) -> Result<(), CliError> {
    if json {
        return text::print_json(&serde_json::json!({ "user": user, "done": what }));
    }
    text::print(&format!("{what} user {user}\n"))
}

/// What a user is known by who has this password.
fn credential(
    mechanism: ScramMechanism,
    iterations: u32,
    password: &[u8],
) -> Result<NewCredential, CliError> {
    let salt: [u8; SALT_BYTES] = random_bytes().map_err(|e| CliError::failed(e.to_string()))?;
    let hash = match mechanism {
        ScramMechanism::SHA_512 => ScramHash::Sha512,
        _ => ScramHash::Sha256,
    };
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let salted = salted_password(hash, password, &salt, rounds);
    let iterations = i32::try_from(iterations).unwrap_or(i32::MAX);
    Ok(NewCredential {
        credential: UserCredential { mechanism, iterations },
        salt: salt.to_vec(),
        salted_password: Secret(salted.into()),
    })
}

/// From the file, the terminal or standard input: the first line.
fn password(file: Option<&Path>, user: &str) -> Result<Vec<u8>, CliError> {
    let most = PASSWORD_BYTES_MAX as u64 + 2;
    let mut bytes = Vec::new();
    match file {
        Some(path) => return read_password(path, "--password-file"),
        None if io::stdin().is_terminal() => bytes = typed(user)?,
        None => {
            let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
            read.map_err(|e| CliError::failed(format!("cannot read the password: {e}")))?;
        }
    }
    first_line(bytes)
}

/// From a file: its first line.
pub(super) fn read_password(path: &Path, option: &str) -> Result<Vec<u8>, CliError> {
    let (most, mut bytes) = (PASSWORD_BYTES_MAX as u64 + 2, Vec::new());
    let read = std::fs::File::open(path).and_then(|f| f.take(most).read_to_end(&mut bytes));
    read.map_err(|e| CliError::usage(format!("{option} {}: {e}", path.display())))?;
    first_line(bytes)
}

pub(super) fn first_line(mut bytes: Vec<u8>) -> Result<Vec<u8>, CliError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    match bytes.len() {
        0 => Err(CliError::usage("the password is empty")),
        1..=PASSWORD_BYTES_MAX if !bytes.contains(&0) => Ok(bytes),
        1..=PASSWORD_BYTES_MAX => Err(CliError::usage("a password has no zero byte in it")),
        _ => Err(CliError::usage(format!(
            "a password has at most {PASSWORD_BYTES_MAX} bytes in its one line"
        ))),
    }
}

/// Asks twice, and shows nothing of what is typed.
fn typed(user: &str) -> Result<Vec<u8>, CliError> {
    let once = |question: &str| -> Result<Vec<u8>, CliError> {
        eprint!("{question}");
        let _silence = Silence::new()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        eprintln!();
        Ok(line.into_bytes())
    };
    let password = once(&format!("Password of {user}: "))?;
    if once("Once more: ")? != password {
        return Err(CliError::usage("the two are not the same"));
    }
    Ok(password)
}

/// A terminal that does not show what is typed, as long as this lives.
struct Silence(rustix::termios::Termios);

impl Silence {
    fn new() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    user: &'a str,
    mechanisms: Vec<ListedMechanism>,
}

#[derive(Serialize)]
struct ListedMechanism {
    mechanism: &'static str,
    iterations: i32,
}

fn show(users: &[User], json: bool) -> Result<(), CliError> {
    let mechanism = |known: &UserCredential| ListedMechanism {
        mechanism: known.mechanism.name(),
        iterations: known.iterations,
    };
    let listed: Vec<Listed<'_>> = users
        .iter()
        .map(|user| Listed {
            user: &user.name,
            mechanisms: user.credentials.iter().map(mechanism).collect(),
        })
        .collect();
    if json {
        return text::print_json(&listed);
    }
    if listed.is_empty() {
        return text::print("There are no users. `millpond user add NAME` makes one.\n");
    }
    let mut table = Table::new(["USER", "MECHANISM", "ITERATIONS"]);
    for user in &listed {
        for known in &user.mechanisms {
            let iterations = known.iterations.to_string();
            table.row([user.user.to_owned(), known.mechanism.to_owned(), iterations]);
        }
    }
    text::print(&table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_whatever_ends_it() {
        for text in ["pa ss", "pa ss\n", "pa ss\r\n", "pa ss\nmore"] {
            assert_eq!(first_line(text.into()).unwrap(), b"pa ss");
        }
        for text in ["", "\n", "\0", &"p".repeat(PASSWORD_BYTES_MAX + 1)] {
            assert!(first_line(text.into()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_salted_anew_every_time() {
        let made = || credential(ScramMechanism::SHA_512, 8192, b"pw").unwrap();
        let (one, other) = (made(), made());
        assert_ne!(one.salt, other.salt);
        assert_ne!(one.salted_password, other.salted_password);
        assert_eq!(one.salted_password.0.len(), 64);
    }
}
