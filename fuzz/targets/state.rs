//! The journal of a state file: any bytes, and good ones that were damaged or cut.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sync_node::simulation::journal;

#[derive(Arbitrary, Debug)]
enum Input {
    /// What an entry says.
    Entry(Vec<u8>),
    /// A file.
    File(Vec<u8>),
    /// A file of entries, then damaged and cut.
    Written { pairs: Vec<(Vec<u8>, Vec<u8>)>, damage: Option<(u16, u8)>, keep: Option<u16> },
}

fuzz_target!(|input: Input| match input {
    Input::Entry(payload) => {
        if let Some(written) = journal::rewrite(&payload) {
            assert_eq!(journal::rewrite(&written), Some(written.clone()), "what we write, we read");
        }
    }
    Input::File(file) => {
        journal::entries(&file);
    }
    Input::Written { pairs, damage, keep } => {
        let pairs: Vec<_> = pairs.into_iter().filter(|(key, _)| (1..=255).contains(&key.len())).collect();
        let mut file = journal::write(&pairs).expect("there is memory");
        // One entry more: how far they reach.
        assert_eq!(journal::entries(&file), Some(pairs.len() + 1));
        let whole = file.len();
        if let Some((at, bits)) = damage {
            let at = usize::from(at) % whole;
            file[at] ^= bits;
        }
        file.truncate(keep.map_or(whole, usize::from));
        let is_damaged = damage.is_some_and(|(at, bits)| bits != 0 && usize::from(at) % whole < file.len());
        match journal::entries(&file) {
            None => assert!(is_damaged || file.len() < whole, "a good file was refused"),
            Some(found) if is_damaged => assert!(found <= pairs.len(), "damage was not noticed"),
            Some(found) => assert!(found <= pairs.len() + 1),
        }
    }
});
