//! Users of the API and the hashes of their passwords: the file of `auth_basic_user_file`.
//!
//! One `name:hash` a line; empty lines and lines that begin with `#` do not count. The hashes are those that operators have the tools for:
//! bcrypt (`$2y$`, from `htpasswd -B`) and SHA-crypt (`$6$`, from `openssl passwd -6`, and `$5$`). Others are refused when the file is
//! read: `$apr1$`, `{SHA}` and DES are no protection any more.
//!
//! A good hash is slow on purpose, tens of milliseconds, and a proxy sends the same password with every request. So each user's last
//! password that proved right is remembered, as a keyed hash under a key that this process made for itself; the memory is bounded by the
//! number of users, and wrong passwords always cost their full time. Comparisons take the same time whatever differs, and a user that does
//! not exist costs as much as one that does.

use parking_lot::Mutex;
use sha_crypt::{PasswordVerifier, ShaCrypt};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Slowest bcrypt hash that is accepted: about two seconds of a processor for each wrong password.
const BCRYPT_COST_MAX: u32 = 15;
/// Slowest SHA-crypt hash that is accepted: about a second.
const SHA_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// Bytes of a password that a client may send.
pub(crate) const PASSWORD_MAX: usize = 512;

/// The users of an API, read from a file once; cheap to clone.
#[derive(Debug, Clone)]
pub struct UsersFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    users: BTreeMap<String, User>,
    /// Makes what is remembered worthless outside this process.
    key: [u8; blake3::KEY_LEN],
}

struct User {
    hash: Hash,
    proved: Mutex<Option<blake3::Hash>>,
}

/// Checked when the file was read.
#[derive(PartialEq)]
enum Hash {
    Bcrypt(String),
    ShaCrypt(String),
}

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line of it makes no sense.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, and the fix.
        message: String,
    },
    /// It has no user, so nobody could ever come in.
    #[error("{}: no user in the file; add one with `htpasswd -B` or as name:hash with the hash of `openssl passwd -6`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl UsersFile {
    /// Reads a password file.
    ///
    /// # Errors
    ///
    /// The first line that makes no sense, with its number and the fix. Hashes are not in the message.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| UsersError::Read { path: path.to_owned(), error })?;
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse =
                |message: String| UsersError::Line { path: path.to_owned(), line: index + 1, message };
            let (name, hash) = line
                .split_once(':')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| refuse("not name:hash; write one user a line".to_owned()))?;
            let hash =
                Hash::parse(hash.trim()).map_err(|message| refuse(format!("user {name:?}: {message}")))?;
            if users.insert(name.to_owned(), User { hash, proved: Mutex::new(None) }).is_some() {
                return Err(refuse(format!("user {name:?} is there twice; remove one of the lines")));
            }
        }
        if users.is_empty() {
            return Err(UsersError::Empty { path: path.to_owned() });
        }
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), users, key: rand::random() }) })
    }

    /// The file they were read from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether this is the password that last proved right for the user. Quick, and `false` says nothing yet.
    pub fn remembers(&self, name: &str, password: &[u8]) -> bool {
        let proof = self.proof(name, password);
        // `blake3::Hash` compares in constant time.
        self.inner.users.get(name).is_some_and(|user| *user.proved.lock() == Some(proof))
    }

    /// Whether this is the user's password. Takes as long as its hash was made to take: not for a thread that serves others.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        if password.len() > PASSWORD_MAX {
            return false;
        }
        let Some(user) = self.inner.users.get(name) else {
            // Somebody's hash, for the time it takes.
            if let Some(user) = self.inner.users.values().next() {
                user.hash.verify(password);
            }
            return false;
        };
        let right = user.hash.verify(password);
        if right {
            *user.proved.lock() = Some(self.proof(name, password));
        }
        right
    }

    /// Whether a user has the same password in another file, as far as its hash tells.
    #[cfg(any(feature = "envoy_rls", feature = "redis"))]
    pub(crate) fn agrees(&self, other: &Self, name: &str) -> bool {
        let (ours, theirs) = (self.inner.users.get(name), other.inner.users.get(name));
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours.hash == theirs.hash)
    }

    /// Whether there is a user of that name.
    #[cfg(feature = "redis")]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.inner.users.contains_key(name)
    }

    fn proof(&self, name: &str, password: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.inner.key);
        hasher.update(name.as_bytes()).update(&[0]).update(password);
        hasher.finalize()
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        const FIX: &str = "make one with `htpasswd -B` or `openssl passwd -6`";
        if text.starts_with("$2") {
            let parts = text
                .parse::<bcrypt::HashParts>()
                .map_err(|error| format!("not a bcrypt hash: {error}; {FIX}"))?;
            return match parts.get_cost() {
                4..=BCRYPT_COST_MAX => Ok(Self::Bcrypt(text.to_owned())),
                cost => Err(format!(
                    "a bcrypt hash of cost {cost}; costs from 4 to {BCRYPT_COST_MAX} are possible"
                )),
            };
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            let rounds = text[3..]
                .strip_prefix("rounds=")
                .and_then(|text| text.split('$').next()?.parse::<u32>().ok());
            if rounds.is_some_and(|rounds| rounds > SHA_CRYPT_ROUNDS_MAX) {
                return Err(format!(
                    "a SHA-crypt hash of more than {SHA_CRYPT_ROUNDS_MAX} rounds; make a quicker one"
                ));
            }
            // Only a right or a wrong password answers so; a hash that makes no sense says something else.
            return match ShaCrypt::default().verify_password(b"", text) {
                Ok(()) | Err(sha_crypt::password_hash::Error::PasswordInvalid) => {
                    Ok(Self::ShaCrypt(text.to_owned()))
                }
                Err(error) => Err(format!("not a SHA-crypt hash: {error}; {FIX}")),
            };
        }
        Err(format!("neither bcrypt ($2y$) nor SHA-crypt ($6$); {FIX}"))
    }

    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::ShaCrypt(hash) => ShaCrypt::default().verify_password(password, hash.as_str()).is_ok(),
        }
    }
}

impl std::fmt::Debug for User {
    /// Hashes stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User")
    }
}

#[cfg(test)]
mod tests;
