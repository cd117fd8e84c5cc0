use super::super::definition::tests::any_definition;
use super::*;
use proptest::prelude::*;

fn server(name: &str) -> Datum {
    Datum::Server(Some(name.as_bytes().to_vec()))
}

fn field() -> [Field; 1] {
    let server_key =
        DATA_TYPES.iter().position(|data_type| data_type.name == "server_key").expect("it is one");
    [Field { number: server_key, count: 1, period_ms: 0 }]
}

#[test]
fn a_server_is_named_once_and_abbreviated_then() {
    let mut telling = Telling::default();
    let mut write = |datum| {
        let mut bytes = Vec::new();
        write(&mut bytes, &mut telling, [datum].into_iter());
        bytes
    };
    assert_eq!(write(server("one")), b"\x05\x01\x03one");
    assert_eq!(write(server("two")), b"\x05\x02\x03two");
    assert_eq!(write(server("one")), b"\x01\x01");
    assert_eq!(write(Datum::Server(None)), b"\0");
}

#[test]
fn more_servers_than_numbers_use_them_again() {
    let (mut telling, mut told) = (Telling::default(), Told::default());
    for n in (0..300).chain((250..300).rev()).chain(0..10) {
        let mut bytes = Vec::new();
        let datum = server(&format!("server-{n}"));
        write(&mut bytes, &mut telling, [datum.clone()].into_iter());
        assert_eq!(read(&field(), &mut told, &mut Reader(&bytes)), Some(vec![vec![datum]]));
    }
    assert!(telling.numbers.len() <= SERVERS_MAX && telling.servers.len() <= SERVERS_MAX);
}

#[test]
fn a_number_that_cannot_be_is_refused() {
    for bytes in [&b"\x01\0"[..], b"\x03\0\x01a", b"\x02\xf0\0", b"\x01\xf0", b"\x03\x01\x05a", b"\x09\x01"] {
        assert_eq!(read(&field(), &mut Told::default(), &mut Reader(bytes)), None, "{bytes:?}");
    }
    // Of a server that was not told nothing is known, as in HAProxy.
    let unknown = read(&field(), &mut Told::default(), &mut Reader(b"\x01\x07"));
    assert_eq!(unknown, Some(vec![vec![Datum::Server(None)]]));
}

proptest! {
    #[test]
    fn data_are_read_as_they_were_written(definition in any_definition(), numbers: [u64; 3], name in "[a-z]{0,9}") {
        let fields = &definition.fields;
        let [age_ms, current, previous] = numbers;
        let datum = |form| match form {
            Form::Number | Form::Total(_) => Datum::Number(age_ms),
            Form::Rate => Datum::Rate(Rate { age_ms, current, previous }),
            Form::Server => server(&name),
        };
        let data: Vec<_> = fields.iter().map(|field| vec![datum(field.form()); field.count]).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &mut Telling::default(), data.iter().flatten().cloned());
        let mut reader = Reader(&bytes);
        prop_assert_eq!(read(fields, &mut Told::default(), &mut reader), Some(data));
        prop_assert!(reader.is_empty());
        if !bytes.is_empty() {
            prop_assert_eq!(read(fields, &mut Told::default(), &mut Reader(&bytes[..bytes.len() - 1])), None);
        }
    }

    #[test]
    fn no_bytes_are_too_odd(definition in any_definition(), bytes: Vec<u8>) {
        let _ = read(&definition.fields, &mut Told::default(), &mut Reader(&bytes));
    }
}
