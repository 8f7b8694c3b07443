//! Names, payloads and times as people read them. Bytes come from strangers: whatever could drive a terminal, hide, or
//! turn the text around it is escaped, as `\u{202e}`.

/// How much of a text a table shows, in characters.
const SHOWN: usize = 48;

/// Whether a character acts on its surroundings instead of being seen: controls (C0, DEL, C1), marks and isolates that
/// change the direction of text, what has no width, and what breaks a line. All of them fit in 16 bits.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text with its hidden characters escaped.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut visible, c));
    visible
}

/// A whole name as people read it, on one line.
pub fn label(name: &[u8]) -> String {
    visible(&String::from_utf8_lossy(name))
}

/// Bytes as people read them: one line, escaped, cut where it gets long.
pub fn shown(bytes: &[u8]) -> String {
    // Cutting bytes first keeps a large payload from being read whole; a character takes at most four.
    let head = &bytes[..bytes.len().min(4 * (SHOWN + 1))];
    cut(&String::from_utf8_lossy(head), SHOWN)
}

/// The first `most` characters of a text, escaped.
pub fn cut(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == most {
            shown.push('…');
            break;
        }
        push(&mut shown, c);
    }
    shown
}

fn push(text: &mut String, c: char) {
    match is_hidden(c) {
        true => text.extend(c.escape_default()),
        false => text.push(c),
    }
}

/// Unix milliseconds as a date and time of day, UTC, by the Gregorian calendar.
pub fn time(ms: i64) -> String {
    let (days, minutes) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 60_000);
    // Counted from 1 March of the year 0, leap days come last in each cycle of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00");
        assert_eq!(time(951_782_399_999), "2000-02-28 23:59");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(time(951_868_800_000), "2000-03-01 00:00");
        assert_eq!(time(-1), "1969-12-31 23:59");
        assert_eq!(time(i64::MAX).get(..9), Some("292278994"));
        assert_eq!(time(i64::MIN).get(..1), Some("-"));
    }

    #[test]
    fn texts_are_cut_and_cannot_drive_a_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("é".repeat(100).as_bytes()), "é".repeat(48) + "…");
        assert_eq!(shown("é".repeat(48).as_bytes()), "é".repeat(48));
        assert_eq!(label(b"x\x07"), "x\\u{7}");
    }

    #[test]
    fn what_turns_or_hides_text_is_escaped() {
        for c in ['\u{9b}', '\u{61c}', '\u{200b}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{feff}']
        {
            assert_eq!(label(format!("a{c}b").as_bytes()), format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        assert_eq!(label("عربي ‐ é 👍\u{301}".as_bytes()), "عربي ‐ é 👍\u{301}");
    }
}
