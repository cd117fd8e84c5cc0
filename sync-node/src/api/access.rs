//! Which clients may speak to the API, by address: the `allow` and `deny` lists.
//!
//! The **most specific** range that contains the client decides; a tie denies. So both ways of writing mean what they say:
//! `allow = ["10.0.0.0/8"], deny = ["10.0.0.66"]` refuses one machine of a network, and `allow = ["127.0.0.1"], deny = ["all"]` refuses everybody
//! else. A client in neither list is allowed if `allow` is empty, and refused if it is not. (NGINX takes the first rule that matches; two lists
//! have no order between them.)

use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// Clients that a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// Everybody: `all`.
    All,
    /// Clients of a Unix socket: `unix:`.
    Unix,
    /// Clients at an address or in a network: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`.
    Net(IpNet),
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "unix:" => Ok(Self::Unix),
            _ => text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map(|net| Self::Net(net.trunc()))
                .map_err(|_| {
                    format!("{text:?} is not a range of clients; write an address, a network such as \"10.0.0.0/8\", \"unix:\" or \"all\"")
                }),
        }
    }
}

impl Range {
    /// How specific the range is if it contains the client: more for smaller ranges.
    fn specificity(&self, client: Option<IpAddr>) -> Option<u8> {
        match (self, client) {
            (Self::All, _) => Some(0),
            (Self::Unix, None) => Some(1),
            // One more than the prefix length, so that 0.0.0.0/0 is more specific than `all`.
            (Self::Net(net), Some(address)) if net.contains(&address) => Some(net.prefix_len() + 1),
            (Self::Unix | Self::Net(_), _) => None,
        }
    }
}

/// The two lists of an `[api]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessList {
    allow: Vec<Range>,
    deny: Vec<Range>,
}

impl AccessList {
    /// Two empty lists allow everybody.
    pub fn new(allow: Vec<Range>, deny: Vec<Range>) -> Self {
        Self { allow, deny }
    }

    /// Whether a client may speak to the API. `None` is a client of a Unix socket. An IPv4 client of an IPv6 socket counts as what it is.
    pub fn allows(&self, client: Option<IpAddr>) -> bool {
        let client = client.map(|address| address.to_canonical());
        let most_specific =
            |ranges: &[Range]| ranges.iter().filter_map(|range| range.specificity(client)).max();
        match (most_specific(&self.allow), most_specific(&self.deny)) {
            (Some(allow), Some(deny)) => allow > deny,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.allow.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests;
