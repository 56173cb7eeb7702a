//! The settings of a channel as the text that scripts store: five numbers or `-`.

use crate::broker::lifecycle::ChannelSettings;

/// Writes settings, in the order of `ChannelSettings::to_array`.
pub(super) fn settings_text(settings: ChannelSettings) -> String {
    let values = settings.to_array().map(|value| match value {
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    });
    values.join(" ")
}

/// Parses settings; returns `None` if no node wrote the text.
pub(super) fn parse_settings(text: &str) -> Option<ChannelSettings> {
    let mut values = [None; 5];
    let mut words = text.split(' ');
    for value in &mut values {
        *value = match words.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
    }
    words
        .next()
        .is_none()
        .then(|| ChannelSettings::from_array(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_and_other_text_is_rejected() {
        let settings = ChannelSettings {
            ttl_ms: Some(5),
            history_events: Some(7),
            ..ChannelSettings::NONE
        };
        assert_eq!(settings_text(settings), "7 - - 5 -");
        for settings in [settings, ChannelSettings::NONE] {
            assert_eq!(parse_settings(&settings_text(settings)), Some(settings));
        }
        for bad in ["", "1 2 3 4", "1 2 3 4 5 6", "- - - - x"] {
            assert_eq!(parse_settings(bad), None, "{bad}");
        }
    }
}
