//! `multipart/form-data` bodies, in which the official client sends a statement together with its parameters.

/// Fields by name, or `None` if `body` is not of the form that `content_type` says.
pub(super) fn fields(content_type: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let (_, boundary) = content_type.split_once("boundary=")?;
    let boundary = boundary.split(';').next()?.trim().trim_matches('"');
    let delimiter = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut parts = str::from_utf8(body).ok()?.split(&delimiter).skip(1);
    loop {
        let part = parts.next()?;
        if part.starts_with("--") {
            return Some(fields);
        }
        let (headers, value) = part.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
        let (_, name) = headers.split_once("name=\"")?;
        let (name, _) = name.split_once('"')?;
        fields.push((name.to_owned(), value.strip_suffix("\r\n")?.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_the_official_client_writes_them() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:String}\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\nx\r\n\r\n--b--\r\n";
        let fields = fields("multipart/form-data; boundary=b", body.as_bytes());
        let expected = [("query", "SELECT {a:String}"), ("param_a", "x\r\n")];
        assert_eq!(fields.unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_body_without_its_end_is_refused() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1\r\n";
        assert_eq!(fields("multipart/form-data; boundary=b", body.as_bytes()), None);
        assert_eq!(fields("multipart/form-data", body.as_bytes()), None);
    }
}
