use super::*;
use std::io::Write;

/// `open sesame` as `openssl passwd -6`, `openssl passwd -5` and the system's bcrypt (`crypt(3)`) hash it.
const SHA_512: &str =
    "$6$abcdefgh$CkjGkP7IIgZVUCNlt.Vi53LOYJLXZ5KzdpzEYCj01XGruA1hxZYJqccTU2zz68oJwAGsd1iPty5F7dHIatUTy/";
const SHA_256: &str = "$5$abcdefgh$FWXdh6oXOJQkX7oAcP02d0Gnxjct6ra8Fwv29U9RIN2";
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn refused(text: &str) -> String {
    let file = file(text);
    let message = UsersFile::load(file.path()).expect_err("refused").to_string();
    message.replace(&file.path().display().to_string(), "users")
}

#[test]
fn accepts_the_hashes_that_operators_have() {
    let file = file(&format!("# staff\n\nann:{SHA_512}\nbob:{SHA_256}\ncho:{BCRYPT}\n"));
    let users = UsersFile::load(file.path()).expect("a good file");
    for name in ["ann", "bob", "cho"] {
        assert!(users.verify(name, b"open sesame"), "{name}");
        assert!(!users.verify(name, b"open sesamy"), "{name}");
        assert!(!users.verify(name, b""), "{name}");
    }
    assert!(!users.verify("dan", b"open sesame"));
}

#[test]
fn remembers_what_proved_right_and_nothing_else() {
    let file = file(&format!("ann:{BCRYPT}\nbob:{BCRYPT}"));
    let users = UsersFile::load(file.path()).expect("a good file");
    assert!(!users.remembers("ann", b"open sesame"));
    assert!(users.verify("ann", b"open sesame"));
    assert!(users.remembers("ann", b"open sesame"));
    assert!(!users.remembers("ann", b"open sesamy"));
    assert!(!users.remembers("bob", b"open sesame"));
    assert!(!users.verify("ann", b"open sesamy"));
    assert!(!users.remembers("ann", b"open sesamy"));
}

#[test]
fn refuses_what_would_not_protect_or_never_match() {
    assert_eq!(
        refused("ann:$apr1$CHN6sy3z$qHTtO9VZ.PRgBeMfwCF/L1"),
        "users:1: user \"ann\": neither bcrypt ($2y$) nor SHA-crypt ($6$); make one with `htpasswd -B` or `openssl passwd -6`"
    );
    assert!(refused("ann:open sesame").contains("users:1: user \"ann\": neither bcrypt"));
    assert!(refused("# ok\nann").starts_with("users:2: not name:hash"));
    assert!(refused(":x").starts_with("users:1: not name:hash"));
    assert!(refused("ann:$2y$04$short").contains("not a bcrypt hash"));
    assert!(refused("ann:$6$abc").contains("not a SHA-crypt hash"));
    assert!(refused(&format!("ann:{}", BCRYPT.replace("$04$", "$31$"))).contains("cost 31"));
    assert!(refused("ann:$6$rounds=90000000$abc$def").contains("make a quicker one"));
    assert!(
        refused(&format!("ann:{BCRYPT}\nann:{BCRYPT}")).starts_with("users:2: user \"ann\" is there twice")
    );
    assert!(refused("\n# nobody\n").contains("no user in the file"));
}

#[test]
fn a_password_longer_than_any_is_refused_before_it_costs() {
    let file = file(&format!("ann:{BCRYPT}"));
    let users = UsersFile::load(file.path()).expect("a good file");
    assert!(!users.verify("ann", &[b'x'; PASSWORD_MAX + 1]));
}
