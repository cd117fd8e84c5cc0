//! Patterns of `SCAN … MATCH`: `*`, `?`, `[a-z]`, `[^x]` and `\` as Redis understands them.
//!
//! Going back to the last star alone is enough, since a star that comes later can take whatever an earlier one could. So a pattern costs at most its
//! length times that of the text, where trying every star anew costs a power of their number.

/// Whether a pattern matches the whole of a text.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Behind the last star, and what of the text it has not taken yet.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            star = Some((rest, text));
            pattern = rest;
            continue;
        }
        let Some((&byte, behind)) = text.split_first() else { return pattern.is_empty() };
        if let Some(rest) = one(pattern, byte) {
            (pattern, text) = (rest, behind);
            continue;
        }
        let Some((rest, [_, taken @ ..])) = star else { return false };
        star = Some((rest, taken));
        (pattern, text) = (rest, taken);
    }
}

/// What is left of a pattern that does not begin with a star, if it begins with something that matches a byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'\\', escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        [b'[', class @ ..] => in_class(class, byte),
        [first, rest @ ..] => (*first == byte).then_some(rest),
    }
}

/// What is left behind a class such as `a-z]` if it contains a byte. A class that does not end, ends with the pattern.
fn in_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut is_in = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', behind @ ..] => {
                rest = behind;
                break;
            }
            [b'\\', escaped, behind @ ..] => {
                is_in |= *escaped == byte;
                behind
            }
            [from, b'-', to, behind @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                behind
            }
            [member, behind @ ..] => {
                is_in |= *member == byte;
                behind
            }
        };
    }
    (is_in != is_negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_those_of_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdef", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("[a\\]]", "]", true),
            ("[ab", "a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("**b", "aab", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// As one would write it without a thought of its cost.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|taken| plainly(rest, &text[taken..])),
            (_, []) => false,
            (pattern, [byte, behind @ ..]) => {
                super::one(pattern, *byte).is_some_and(|rest| plainly(rest, behind))
            }
        }
    }

    proptest! {
        #[test]
        fn going_back_to_the_last_star_is_enough(pattern in "[ab*?\\[\\]^\\\\-]{0,8}", text in "[ab\\]-]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), plainly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn many_stars_cost_little(stars in 1..200usize) {
            prop_assert!(!matches(&b"a*".repeat(stars).iter().chain(b"b").copied().collect::<Vec<_>>(), &[b'a'; 2_000]));
        }
    }
}
