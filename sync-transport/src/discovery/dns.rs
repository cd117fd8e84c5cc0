//! Asking DNS: A and AAAA for a host, SRV and then those for a service.
//!
//! Each record set has its own last good answer: if the A records are answered and the AAAA records are
//! not, only the latter keep their old value.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;

use crate::{Address, Server, Target, Transport};

/// Time for one DNS server to answer one question; lost UDP packets are sent again within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long "no such name" is believed when the answer does not say (no SOA record in it).
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How long the hosts file is believed.
const HOSTS_TTL: Duration = Duration::from_secs(60);
/// Most hosts that SRV records of one name may give. A full mesh of more is out of scope, and each is
/// looked up by itself.
const SRV_HOSTS_MAX: usize = 256;

/// What one lookup of a server found.
#[derive(Debug)]
pub(super) struct Round {
    /// Last good targets, of this round or of an earlier one.
    pub(super) targets: Vec<Target>,
    /// Shortest time that an answer of this round is valid.
    pub(super) ttl: Duration,
    /// Whether anything was answered, be it with "nothing".
    pub(super) is_known: bool,
    /// What failed; `None` if all was answered.
    pub(super) error: Option<String>,
}

/// Looks a server up again and again, and remembers the last good answers.
#[derive(Debug)]
pub(super) struct Follower {
    server: Server,
    services: Vec<Service>,
    addresses: BTreeMap<(String, Family), Vec<IpAddr>>,
}

/// What an SRV record leads to, in order of priority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Service {
    priority: u16,
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

/// The values of a record set, none if there is none, and how long they are valid.
struct Answer<T> {
    values: Vec<T>,
    ttl: Duration,
}

impl Follower {
    /// Starts with targets known from before, for as long as nothing better is answered.
    pub(super) fn new(server: Server, known: &[Target]) -> Self {
        let mut follower = Self { server, services: Vec::new(), addresses: BTreeMap::new() };
        for (position, target) in known.iter().enumerate() {
            let (Address::Tcp(socket) | Address::Quic(socket)) = target.address else { continue };
            let family = if socket.is_ipv4() { Family::V4 } else { Family::V6 };
            let priority = u16::try_from(position).unwrap_or(u16::MAX);
            let service = Service { priority, host: target.host.clone(), port: socket.port() };
            follower.addresses.entry((service.host.clone(), family)).or_default().push(socket.ip());
            if !follower
                .services
                .iter()
                .any(|known| (&known.host, known.port) == (&service.host, service.port))
            {
                follower.services.push(service);
            }
        }
        follower
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Asks everything once.
    pub(super) async fn round(&mut self, resolvers: &[SocketAddr]) -> Round {
        let mut progress = Progress { ttl: Duration::MAX, is_known: false, error: None };
        self.ask(&Client::new(resolvers), &mut progress).await;
        let Progress { ttl, is_known, error } = progress;
        Round { targets: self.targets(), ttl, is_known, error }
    }

    async fn ask(&mut self, client: &Client, progress: &mut Progress) {
        match &self.server {
            Server::Static(_) => return,
            Server::Host { host, port, .. } => {
                self.services = vec![Service { priority: 0, host: host.clone(), port: *port }];
            }
            Server::Srv { name } => match progress.note(name, "SRV", client.services(name).await) {
                Some(services) => self.services = services,
                None if self.services.is_empty() => return,
                None => {}
            },
        }
        let mut lookups = JoinSet::new();
        for service in &self.services {
            for family in [Family::V4, Family::V6] {
                let (client, host) = (client.clone(), service.host.clone());
                lookups.spawn(async move {
                    let answer = client.addresses(&host, family).await;
                    (host, family, answer)
                });
            }
        }
        while let Some(lookup) = lookups.join_next().await {
            // A lookup that panicked is a lookup that failed: what was known stays.
            let Ok((host, family, answer)) = lookup else { continue };
            if let Some(addresses) = progress.note(&host, family.record_type_name(), answer) {
                self.addresses.insert((host, family), addresses);
            }
        }
        let services = &self.services;
        self.addresses.retain(|(host, _), _| services.iter().any(|service| service.host == *host));
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let transport = if self.server.is_quic() { Transport::Quic } else { Transport::Tcp };
        for service in &self.services {
            for family in [Family::V4, Family::V6] {
                let addresses = self.addresses.get(&(service.host.clone(), family));
                targets.extend(addresses.into_iter().flatten().map(|ip| Target {
                    address: transport.at(SocketAddr::new(*ip, service.port)),
                    server: self.server.clone(),
                    host: service.host.clone(),
                }));
            }
        }
        targets
    }
}

/// What the answers of a round add up to.
struct Progress {
    ttl: Duration,
    is_known: bool,
    error: Option<String>,
}

impl Progress {
    /// The values that were answered; `None` if the question failed.
    fn note<T>(&mut self, name: &str, kind: &str, answer: Result<Answer<T>, String>) -> Option<Vec<T>> {
        match answer {
            Ok(answer) => {
                self.ttl = self.ttl.min(answer.ttl);
                self.is_known = true;
                Some(answer.values)
            }
            Err(cause) => {
                // The first one: the others are nearly always the same.
                self.error.get_or_insert_with(|| format!("{kind} {name}: {cause}"));
                None
            }
        }
    }
}

impl Family {
    fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }

    fn record_type_name(self) -> &'static str {
        match self {
            Self::V4 => "A",
            Self::V6 => "AAAA",
        }
    }
}

/// The way to DNS, made anew for each round: that costs little beside a question, and follows changes
/// of resolv.conf and of the hosts file.
#[derive(Clone)]
struct Client {
    /// One for each DNS server, in the order to ask them; or why there are none (what the hosts file has
    /// is found all the same).
    ///
    /// Not one for all: hickory takes an error response of one server for the answer of all, and asks
    /// them at the same time, so that a public server could deny a name that only the internal one has.
    resolvers: Result<Vec<TokioResolver>, String>,
    hosts: Option<Arc<Hosts>>,
    suffixes: Vec<Name>,
    dots_min: usize,
}

impl Client {
    fn new(resolvers: &[SocketAddr]) -> Self {
        if resolvers.is_empty() {
            return Self::of_system();
        }
        let resolvers =
            resolvers.iter().map(|address| resolver(name_server(address), ResolverOpts::default()));
        Self { resolvers: resolvers.collect(), hosts: None, suffixes: Vec::new(), dots_min: 1 }
    }

    fn of_system() -> Self {
        let hosts = Hosts::from_system().ok().map(Arc::new);
        match hickory_resolver::system_conf::read_system_conf() {
            Ok((config, options)) => Self {
                hosts,
                suffixes: config.domain().into_iter().chain(config.search()).cloned().collect(),
                dots_min: options.ndots,
                resolvers: config
                    .name_servers()
                    .iter()
                    .map(|one| resolver(one.clone(), options.clone()))
                    .collect(),
            },
            Err(error) => {
                let cause = format!("the system's DNS configuration cannot be used: {error}");
                Self { resolvers: Err(cause), hosts, suffixes: Vec::new(), dots_min: 1 }
            }
        }
    }

    async fn addresses(&self, host: &str, family: Family) -> Result<Answer<IpAddr>, String> {
        let mut answer = self.lookup(host, family.record_type(), |data| data.ip_addr()).await?;
        answer.values.sort_unstable();
        answer.values.dedup();
        Ok(answer)
    }

    async fn services(&self, name: &str) -> Result<Answer<Service>, String> {
        let mut answer = self.lookup(name, RecordType::SRV, service).await?;
        answer.values.sort_unstable();
        answer.values.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
        match answer.values.len() {
            count if count > SRV_HOSTS_MAX => {
                Err(format!("{count} hosts, at most {SRV_HOSTS_MAX} are followed"))
            }
            _ => Ok(answer),
        }
    }

    /// Asks for one record set under the names that `name` may be short for; the first that has any is it.
    ///
    /// hickory could do this itself, but reports only the last failure: a domain of the search list
    /// that did not answer, followed by one that does not have the name, would pass for "no such name"
    /// and take the nodes away.
    async fn lookup<T>(
        &self,
        name: &str,
        record_type: RecordType,
        value: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, String> {
        let mut ttl = Duration::MAX;
        let mut failure = None;
        for name in self.candidates(name)? {
            if let Some(answer) = self.in_hosts(&name, record_type, &value) {
                return Ok(answer);
            }
            match self.ask(&name, record_type).await {
                Ok(lookup) => {
                    let values: Vec<_> =
                        lookup.answers().iter().filter_map(|record| value(&record.data)).collect();
                    let shortest = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
                    if !values.is_empty() {
                        return Ok(Answer { values, ttl: Duration::from_secs(shortest.into()) });
                    }
                    ttl = ttl.min(NEGATIVE_TTL);
                }
                Err(Unanswered::None(negative)) => ttl = ttl.min(negative),
                Err(Unanswered::Failed(cause)) => failure = Some(cause),
            }
        }
        failure.map_or(Ok(Answer { values: Vec::new(), ttl }), Err)
    }

    /// Asks one DNS server after the other until one knows, or knows that there is nothing.
    async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Lookup, Unanswered> {
        let mut failure = "no resolver is configured".to_owned();
        for resolver in self.resolvers.as_ref().map_err(|cause| Unanswered::Failed(cause.clone()))? {
            match resolver.lookup(name.clone(), record_type).await {
                Ok(lookup) => return Ok(lookup),
                Err(error) => match negative_ttl(&error) {
                    Some(ttl) => return Err(Unanswered::None(ttl)),
                    None => failure = describe(&error),
                },
            }
        }
        Err(Unanswered::Failed(failure))
    }

    /// The full names that `name` may stand for, most likely first, as resolv.conf(5) has it.
    fn candidates(&self, name: &str) -> Result<Vec<Name>, String> {
        let relative = Name::from_ascii(name).map_err(|error| error.to_string())?;
        let mut absolute = relative.clone();
        absolute.set_fqdn(true);
        // Under a suffix the name may get too long; then it is none.
        let mut names: Vec<_> =
            self.suffixes.iter().filter_map(|suffix| relative.clone().append_domain(suffix).ok()).collect();
        let dots = name.bytes().filter(|&byte| byte == b'.').count();
        let at = if dots >= self.dots_min { 0 } else { names.len() };
        names.insert(at, absolute);
        Ok(names)
    }

    /// The answer of the hosts file, which goes before DNS: a name that has an address there, of either
    /// family, has no others.
    fn in_hosts<T>(
        &self,
        name: &Name,
        record_type: RecordType,
        value: impl Fn(&RData) -> Option<T>,
    ) -> Option<Answer<T>> {
        let hosts = self.hosts.as_ref()?;
        let find = |record_type| hosts.lookup_static_host(&Query::query(name.clone(), record_type));
        if find(RecordType::A).is_none() && find(RecordType::AAAA).is_none() {
            return None;
        }
        let values = find(record_type)
            .map(|lookup| lookup.answers().iter().filter_map(|record| value(&record.data)).collect());
        Some(Answer { values: values.unwrap_or_default(), ttl: HOSTS_TTL })
    }
}

/// Why a question has no records as its answer.
enum Unanswered {
    /// There are none, and that may be believed for so long.
    None(Duration),
    /// Nobody who was asked knows.
    Failed(String),
}

fn resolver(server: NameServerConfig, mut options: ResolverOpts) -> Result<TokioResolver, String> {
    options.timeout = ANSWER_TIMEOUT;
    options.attempts = 0;
    // The schedule of lookups is ours, and so is the hosts file (see `Client::in_hosts`).
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|error| error.to_string())
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn service(data: &RData) -> Option<Service> {
    let RData::SRV(srv) = data else { return None };
    // A target of "." says that there is no such service here (RFC 2782).
    if srv.target.is_root() {
        return None;
    }
    let host = srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    Some(Service { priority: srv.priority, host, port: srv.port })
}

/// How long to believe that there is no such record, if that is what the answer says: the name does not
/// exist, or it has no record of the type. Anything else (SERVFAIL, REFUSED, a referral, silence) says
/// nothing about the name.
fn negative_ttl(error: &NetError) -> Option<Duration> {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { return None };
    let NoRecords { soa, ns, negative_ttl, response_code, .. } = none;
    let is_answer = match response_code {
        ResponseCode::NXDomain => true,
        // Name servers without an SOA: go and ask them, RFC 2308 §2.2.
        ResponseCode::NoError => soa.is_some() || ns.is_none(),
        _ => false,
    };
    is_answer.then(|| negative_ttl.map_or(NEGATIVE_TTL, |seconds| Duration::from_secs(seconds.into())))
}

fn describe(error: &NetError) -> String {
    match error {
        NetError::Timeout => "the resolver does not answer".to_owned(),
        NetError::NoConnections => "the resolver cannot be reached".to_owned(),
        NetError::Io(error) => format!("the resolver cannot be reached: {error}"),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the resolver answers {code}"),
        NetError::Dns(DnsError::NoRecordsFound(_)) => "the resolver answers with a referral".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
