//! Text of the page: escaping and numbers.

/// Text as it may stand in an element or in an attribute. What XML has no room for becomes U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(character),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ if character.is_control() => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}

/// The first `most` characters, with an ellipsis if there are more. Not escaped.
pub(super) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(most.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// Three digits that matter; a dash for what is no number.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.0995 => significant(value),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        size if size < 1e15 => grouped(value),
        _ => format!("{value:.2e}"),
    }
}

/// Two digits that matter of something below 0.1.
fn significant(value: f64) -> String {
    let digits = (1.0 - value.abs().log10().floor()).clamp(2.0, 6.0);
    let text = format!("{value:.*}", digits as usize);
    if text.trim_matches(['-', '0', '.']).is_empty() { "≈ 0".to_owned() } else { text }
}

/// A whole number, from five digits on with thin spaces between the thousands.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if digits.len() > 4 && place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A tick of an axis: no more digits than it needs.
pub(super) fn tick(value: f64) -> String {
    if value < 0.995 { format!("{value}") } else { grouped(value) }
}

/// A time with its unit, from nanoseconds; a dash for what is no number.
pub(super) fn duration(ns: f64) -> String {
    if !ns.is_finite() {
        return number(ns);
    }
    let (value, unit) = unit(ns);
    format!("{}\u{a0}{unit}", number(value))
}

/// The same for a tick.
pub(super) fn duration_tick(ns: f64) -> String {
    let (value, unit) = unit(ns);
    format!("{}\u{a0}{unit}", tick(value))
}

fn unit(ns: f64) -> (f64, &'static str) {
    match ns {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999_500.0 => (ns / 1e3, "µs"),
        ns => (ns / 1e6, "ms"),
    }
}

/// What a payload is called.
pub(super) fn payload(bytes: u32) -> String {
    if bytes == 0 { "no payload".to_owned() } else { format!("{} B payload", grouped(f64::from(bytes))) }
}

/// What a mode is called, in a heading.
pub(super) fn mode(mode: &str) -> String {
    match mode {
        "polled" => "Polled".to_owned(),
        "sleep" => "Sleeping, woken through eventfds".to_owned(),
        "device" => "The device’s side alone".to_owned(),
        _ => mode.to_owned(),
    }
}

/// `1 thread`, `2 threads`.
pub(super) fn threads(count: u8) -> String {
    match count {
        1 => "one thread".to_owned(),
        2 => "two pinned threads".to_owned(),
        _ => format!("{count} threads"),
    }
}
