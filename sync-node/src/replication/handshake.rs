//! The first frame each way: who are you, and may we talk?

use std::time::Duration;

use sync_proto::VERSION;
use sync_proto::wire::refuse::Code;
use sync_proto::wire::{Hello, Zone, ZoneKind as WireKind};
use sync_store::{MatchBy, Origin, Replica, VersionVector, ZoneKind};

use super::clock_offset::micros;
use super::{LinkError, Now, Shared, known, vector};

/// The other side, after its Hello was found good.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    pub(crate) name: String,
    /// The peer's zones in the order of its Hello, each with the index of ours that it synchronizes with.
    pub(crate) zones: Vec<PeerZone>,
    /// One sentence per zone that does not synchronize.
    pub(crate) mismatches: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct PeerZone {
    pub(crate) ours: Option<usize>,
    pub(crate) vector: VersionVector,
}

/// Our Hello.
pub(crate) fn hello(shared: &Shared, now: Now) -> Hello {
    let zones = shared.zones.iter().map(|zone| Zone {
        name: zone.replica.name().to_owned(),
        kind: wire_kind(zone.replica.as_ref()) as i32,
        vector: known(&zone.replica.vector()),
    });
    Hello {
        version: VERSION,
        cluster: shared.identity.cluster.clone(),
        origin: shared.identity.origin.raw(),
        node: shared.identity.name.clone(),
        clock_us: micros(now),
        zones: zones.collect(),
        max_frame: u32::try_from(shared.settings.max_frame).unwrap_or(u32::MAX),
    }
}

/// Examines the peer's Hello. An error is a refusal that says what does not fit, with both sides' values.
pub(crate) fn examine(shared: &Shared, hello: &Hello, now: Now) -> Result<Peer, LinkError> {
    let refuse = |code, message| Err(LinkError::Refused { code, message });
    let identity = &shared.identity;
    if hello.version != VERSION {
        let message = format!("protocol version {} is not spoken here, only {VERSION}", hello.version);
        return refuse(Code::Version, message);
    }
    if hello.cluster != identity.cluster {
        let message = format!(
            "cluster names differ: {:?} is in cluster {:?}, {:?} in {:?}",
            identity.name, identity.cluster, hello.node, hello.cluster
        );
        return refuse(Code::Cluster, message);
    }
    let Some(origin) = Origin::from_raw(hello.origin) else {
        return refuse(Code::Malformed, "a Hello without an origin".to_owned());
    };
    if origin == identity.origin {
        return refuse(Code::Self_, "this is the node that dialled".to_owned());
    }
    let (theirs, ours) = (hello.clock_us, micros(now));
    if u128::from(theirs.abs_diff(ours)) > shared.settings.max_clock_skew.as_micros() {
        let message = format!(
            "clocks differ by {:?}, more than max_clock_skew ({:?}): {:?} has {ours} us since 1970, {:?} has {theirs}",
            Duration::from_micros(theirs.abs_diff(ours)),
            shared.settings.max_clock_skew,
            identity.name,
            hello.node,
        );
        return refuse(Code::Clock, message);
    }
    // 0 is what a peer says that leaves the bound to the protocol.
    if hello.max_frame != 0 && (hello.max_frame as usize) < shared.settings.batch_bytes {
        let message = format!(
            "{:?} accepts frames of {} bytes, {:?} sends batches of {}: raise max_frame there or lower buffers here",
            hello.node, hello.max_frame, identity.name, shared.settings.batch_bytes
        );
        return refuse(Code::Limit, message);
    }
    let peer = match_zones(shared, hello, origin);
    for zone in &peer.zones {
        if let Some(id) = zone.ours {
            check_claim(shared, id, &zone.vector)?;
        }
    }
    Ok(peer)
}

/// Refuses a vector by which a peer knows more of this node than it has published.
pub(crate) fn check_claim(shared: &Shared, zone: usize, vector: &VersionVector) -> Result<(), LinkError> {
    let replica = &shared.zones[zone].replica;
    let (claimed, published) = (vector.get(shared.identity.origin), replica.published_seq());
    if claimed <= published {
        return Ok(());
    }
    Err(LinkError::malformed(format!(
        "it claims to know {claimed} records of this node's zone {:?}, which has published {published}",
        replica.name(),
    )))
}

fn match_zones(shared: &Shared, hello: &Hello, origin: Origin) -> Peer {
    let mut mismatches = Vec::new();
    let mut zones = Vec::with_capacity(hello.zones.len());
    for zone in &hello.zones {
        let ours = shared.zones.iter().position(|z| z.replica.name() == zone.name);
        let ours = match ours {
            None => {
                mismatches.push(format!("zone {:?} exists only on {:?}", zone.name, hello.node));
                None
            }
            Some(index) if wire_kind(shared.zones[index].replica.as_ref()) as i32 != zone.kind => {
                mismatches.push(format!(
                    "zone {:?} is a {} zone on {:?}, a {} zone on {:?}: it does not synchronize",
                    zone.name,
                    kind_name(wire_kind(shared.zones[index].replica.as_ref()) as i32),
                    shared.identity.name,
                    kind_name(zone.kind),
                    hello.node,
                ));
                None
            }
            // The first zone of a name counts; a second one is a mistake of the peer.
            Some(index) if zones.iter().any(|z: &PeerZone| z.ours == Some(index)) => {
                mismatches.push(format!("{:?} lists zone {:?} twice", hello.node, zone.name));
                None
            }
            Some(index) => Some(index),
        };
        zones.push(PeerZone { ours, vector: vector(&zone.vector) });
    }
    for zone in &shared.zones {
        if hello.zones.iter().all(|z| z.name != zone.replica.name()) {
            mismatches.push(format!(
                "zone {:?} exists only on {:?}",
                zone.replica.name(),
                shared.identity.name
            ));
        }
    }
    Peer { origin, name: hello.node.clone(), zones, mismatches }
}

fn wire_kind(zone: &dyn Replica) -> WireKind {
    match (zone.kind(), zone.match_by()) {
        (ZoneKind::Keyval, MatchBy::Exact) => WireKind::Keyval,
        (ZoneKind::Keyval, MatchBy::Ip) => WireKind::KeyvalIp,
        (ZoneKind::Keyval, MatchBy::Prefix) => WireKind::KeyvalPrefix,
        (ZoneKind::Sticky, _) => WireKind::Sticky,
        (ZoneKind::Limit, _) => WireKind::Limit,
    }
}

fn kind_name(kind: i32) -> &'static str {
    match WireKind::try_from(kind) {
        Ok(WireKind::Keyval) => "keyval",
        Ok(WireKind::KeyvalIp) => "keyval (type ip)",
        Ok(WireKind::KeyvalPrefix) => "keyval (type prefix)",
        Ok(WireKind::Sticky) => "sticky",
        Ok(WireKind::Limit) => "limit",
        Ok(WireKind::Unspecified) | Err(_) => "unknown",
    }
}
