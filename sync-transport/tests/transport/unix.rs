//! Files of Unix sockets.

use std::os::unix::fs::PermissionsExt;

use sync_transport::{Address, ConnectOptions, Connector, ListenOptions, Listener};
use tempfile::TempDir;

use crate::link::meet;

async fn bind(address: &Address) -> Result<Listener, sync_transport::Error> {
    Listener::bind(address, ListenOptions::default()).await
}

fn place() -> (TempDir, std::path::PathBuf, Address) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sync.sock");
    let address = Address::Unix(path.clone());
    (directory, path, address)
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_listener() {
    let (_directory, path, address) = place();
    let listener = bind(&address).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_replaced() {
    let (_directory, path, address) = place();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the standard library leaves the file");
    let listener = bind(&address).await.unwrap();
    let (dialed, accepted) = meet(&Connector::new(ConnectOptions::default()), &listener).await;
    dialed.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone() {
    let (_directory, _path, address) = place();
    let listener = bind(&address).await.unwrap();
    let error = bind(&address).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    // The probe is in the queue of the listener, as a peer that has hung up.
    drop(listener.accept().await.unwrap());
    let (dialed, accepted) = meet(&Connector::new(ConnectOptions::default()), &listener).await;
    dialed.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn a_file_of_another_kind_is_left_alone() {
    let (_directory, path, address) = place();
    std::fs::write(&path, "precious").unwrap();
    let error = bind(&address).await.unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn the_socket_of_a_successor_is_left_alone() {
    let (_directory, path, address) = place();
    let old = bind(&address).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _new = bind(&address).await.unwrap();
    drop(old);
    assert!(path.exists());
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let (_directory, path, _) = place();
    let error = bind(&Address::Unix(path.join("below"))).await.unwrap_err();
    assert!(error.to_string().contains("no such file or directory"), "{error}");
    assert!(error.to_string().contains("sync.sock/below"), "{error}");
}
