//! The HTTP API of a node.

pub mod access;
pub mod users;

use access::AccessList;
use users::UsersFile;

/// What clients of the API may do. The default is what a configuration without a word grants: everybody may read.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Change zones and reset counters: POST, PATCH and DELETE under `/api`. Default: false. (`api write=on`)
    pub write: bool,
    /// Decide: `POST /v1/limit_req`, which uses up rate, and PUT and DELETE on `/v1/sticky`. Default here false, in a file as `write`.
    pub decide: bool,
    /// Clients by address. Default: everybody. (`allow`, `deny`)
    pub access: AccessList,
    /// Users and the hashes of their passwords. Default: no password is asked for. (`auth_basic_user_file`)
    pub users: Option<UsersFile>,
}
