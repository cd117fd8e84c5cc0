//! A disk that loses what was not synchronized when the power fails: any part of it, in any order.

use parking_lot::Mutex;
use redb::StorageBackend;

use super::*;
use crate::state::unsaved::Records;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const ID: u64 = 77;

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct Platter {
    now: Vec<u8>,
    synchronized: Vec<u8>,
    /// What has changed since.
    changes: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// The disk after a power cut at this moment.
    fn after_power_cut(&self, rng: &mut SmallRng) -> Self {
        let platter = self.0.lock();
        let mut left = platter.synchronized.clone();
        for change in &platter.changes {
            match change {
                Change::Length(length) if rng.random_bool(0.5) => left.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write(offset, data) => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        if rng.random_bool(0.5) {
                            put(&mut left, offset + number * SECTOR, sector);
                        }
                    }
                }
            }
        }
        Self(Arc::new(Mutex::new(Platter { now: left.clone(), synchronized: left, changes: Vec::new() })))
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock();
        let from = platter.now.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.now.resize(len as usize, 0);
        platter.changes.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.synchronized = platter.now.clone();
        platter.changes.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock();
        put(&mut platter.now, offset as usize, data);
        platter.changes.push(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

/// A machine with the files of a zone on two disks.
struct Machine {
    disks: [Disk; 2],
    table: Table,
    journal: Journal,
}

impl Machine {
    fn new() -> Self {
        let disks = [Disk::default(), Disk::default()];
        let table = Table::open(disks[0].clone()).expect("an empty disk");
        let about = About { zone: "one".to_owned(), match_by: MatchBy::Exact, id: ID };
        table.found(&about, &Mark::new(NOW)).expect("written");
        let mut journal = Journal::open(Box::new(disks[1].clone()), ID, 1).expect("an empty disk");
        journal.begin().expect("written");
        Self { disks, table, journal }
    }

    /// The same machine after a power cut, or what is damaged of its files.
    fn after_power_cut(&self, rng: &mut SmallRng) -> Result<Self, Fault> {
        let disks = [0, 1].map(|disk: usize| self.disks[disk].after_power_cut(rng));
        let table = Table::open(disks[0].clone())?;
        assert_eq!(table.about()?.0.id, ID);
        let mut journal = Journal::open(Box::new(disks[1].clone()), ID, rng.random())?;
        journal.begin().map_err(Fault::Io)?;
        Ok(Self { disks, table, journal })
    }

    /// The step of the latest record of each key.
    fn steps(&self) -> BTreeMap<Vec<u8>, u64> {
        let mut steps = BTreeMap::new();
        let mut note = |key: &[u8], saved: Saved<&[u8]>| {
            let step: &mut u64 = steps.entry(key.to_vec()).or_default();
            *step = saved.dot.seq.max(*step);
            Ok::<_, Fault>(())
        };
        self.table.read(&mut note).expect("readable");
        let journal = self.journal.read(|entry| match entry {
            Entry::Record(key, saved) => note(key, saved),
            Entry::Mark(_) => Ok(()),
        });
        journal.expect("readable");
        steps
    }
}

/// Writes, synchronizes and moves records, and cuts the power in between.
#[test]
fn what_was_synchronized_survives_a_power_cut_at_any_moment() {
    let mut cuts = 0;
    let mut lost = 0;
    for seed in 0..40 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut machine = Machine::new();
        let origin = Origin::random();
        // Steps of the latest writes, and of the latest that were synchronized.
        let mut written: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut synchronized = written.clone();
        for step in 1..80u64 {
            match rng.random_range(0..4) {
                0 | 1 => {
                    let mut records = Records::new();
                    for _ in 0..rng.random_range(1..20) {
                        let key = format!("key-{}", rng.random_range(0..40)).into_bytes();
                        let saved = saved(step, Dot { origin, seq: step });
                        let stamp = Stamp::from_raw(saved.stamp.raw() + step);
                        records.insert(key.clone().into(), Saved { stamp, ..saved });
                        written.insert(key, step);
                    }
                    let entries = records.iter().map(|(key, saved)| (key.as_ref(), saved));
                    machine.journal.append(entries, &Mark::new(NOW)).expect("written");
                }
                2 => {
                    machine.journal.sync().expect("synchronized");
                    synchronized.clone_from(&written);
                }
                _ => {
                    machine.table.take_over(&machine.journal, NOW.as_millis(), 3_600_000).expect("moved");
                    synchronized.clone_from(&written);
                    if rng.random_bool(0.7) {
                        machine.journal.clear().expect("emptied");
                    }
                }
            }
            if rng.random_bool(0.3) {
                let after = machine.after_power_cut(&mut rng);
                machine = after.unwrap_or_else(|fault| panic!("seed {seed}, step {step}: {fault}"));
                let found = machine.steps();
                for (key, at_least) in &synchronized {
                    let found = found.get(key).copied();
                    assert!(
                        found >= Some(*at_least),
                        "seed {seed}, step {step}: {key:?} is of {found:?}, not {at_least}"
                    );
                }
                cuts += 1;
                lost += usize::from(found != written);
                written.clone_from(&found);
                synchronized = found;
            }
        }
    }
    assert!(
        cuts > 500 && lost > 100,
        "{lost} of {cuts} power cuts lost something: the disk loses too little"
    );
}
