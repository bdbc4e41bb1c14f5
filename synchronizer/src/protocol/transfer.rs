//! A Snapshot Send over a wire, the same in both directions.

use super::{
    Message,
    wire::{Fault, Wire, due},
};
use atlas_model::{Digest, Role, cycle::Moved};
use atlas_sid::{
    SidData,
    incoming::{self, Incoming},
    outgoing::{MAX_DESCRIPTION_FILES, Offered, description_limit},
};
use std::io::{Read, Write};

/// Offers the Snapshots of `role`, and sends what the other side lacks.
pub(crate) fn send<R: Read, W: Write>(wire: &mut Wire<R, W>, sid: &SidData, role: Role) -> Result<Moved, Fault> {
    let offered = Offered::open(sid, role)?;
    let generation = offered.offer().generation;
    let before = wire.moved;
    wire.say(&Message::Offer { offer: offered.offer().clone() })?;
    match wire.hear()? {
        Message::Have => return Ok(Moved { generation, ..Moved::default() }),
        Message::Want => {}
        _ => return Err(Fault::Protocol("neither Have nor Want answered an Offer".into())),
    }
    let outgoing = offered.read()?;
    for described in outgoing.descriptions() {
        let (env_version, files) = described?;
        let sizes = files.iter().map(|(name, content)| (name.clone(), content.len() as u64)).collect();
        wire.say(&Message::Snapshot { env_version, files: sizes })?;
        files.iter().try_for_each(|(_, content)| wire.put(content))?;
    }
    wire.flush()?;
    let count = due!(wire, Message::Need { count } => count, "Need");
    let mut digests = Vec::new();
    for _ in 0..count {
        digests.push(digest(&wire.get(32)?)?);
        if digests.len() > atlas_model::manifest::Manifest::MAX_ENTRIES {
            return Err(Fault::Protocol("it needs more files than a Snapshot can have".into()));
        }
    }
    for digest in &digests {
        let (mut file, size) = outgoing
            .content(digest)?
            .ok_or_else(|| Fault::Protocol("it asks for content that was not offered".into()))?;
        wire.put_from(&mut file, size)?;
    }
    wire.flush()?;
    due!(wire, Message::Stored => (), "Stored");
    Ok(Moved { generation, changed: true, files: count, bytes: wire.moved - before })
}

/// Receives the Snapshots of `role` from the other side, and publishes them.
pub(crate) fn receive<R: Read, W: Write>(wire: &mut Wire<R, W>, sid: &SidData, role: Role) -> Result<Moved, Fault> {
    let offer = due!(wire, Message::Offer { offer } => offer, "Offer");
    if offer.role != role {
        return Err(Fault::Refused(format!("it offers the Snapshots of {}, not its own as {role}", offer.role)));
    }
    let generation = offer.generation;
    if incoming::holds(sid, &offer)? {
        wire.say(&Message::Have)?;
        return Ok(Moved { generation, ..Moved::default() });
    }
    let before = wire.moved;
    wire.say(&Message::Want)?;
    let mut incoming = Incoming::begin(sid, offer.clone())?;
    let filled = fill(wire, &mut incoming, offer.newest);
    match filled {
        Ok(files) => {
            incoming.publish()?;
            wire.say(&Message::Stored)?;
            Ok(Moved { generation, changed: true, files, bytes: wire.moved - before })
        }
        Err(fault) => {
            // The reason for giving up matters more than what could not be removed; the next receive removes it.
            let _ = incoming.abandon();
            Err(fault)
        }
    }
}

fn fill<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    incoming: &mut Incoming<'_>,
    newest: atlas_model::EnvVersion,
) -> Result<u64, Fault> {
    loop {
        let (version, sizes) =
            due!(wire, Message::Snapshot { env_version, files } => (env_version, files), "a Snapshot");
        if sizes.len() > MAX_DESCRIPTION_FILES {
            return Err(Fault::Protocol("a Snapshot with too many path lists".into()));
        }
        let mut description = Vec::new();
        for (name, size) in sizes {
            let size = usize::try_from(size).ok().filter(|size| *size <= description_limit(&name));
            let size = size.ok_or_else(|| Fault::Protocol("a path list or Manifest that is too large".into()))?;
            description.push((name, wire.get(size)?));
        }
        incoming.describe(version, &description)?;
        if version >= newest {
            break;
        }
    }
    let needs = incoming.needs()?;
    wire.say(&Message::Need { count: needs.len() as u64 })?;
    for digest in &needs {
        wire.put(digest.as_bytes())?;
    }
    wire.flush()?;
    for digest in &needs {
        let size = incoming.content(digest, wire.raw())?;
        wire.moved += size;
    }
    Ok(needs.len() as u64)
}

fn digest(bytes: &[u8]) -> Result<Digest, Fault> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| Fault::Protocol("a digest that is none".into()))?;
    Ok(Digest::from_bytes(bytes))
}
