//! JSON-RPC 2.0, an object a line: <https://www.jsonrpc.org/specification>. No method is known here.
//!
//! Batches are refused: requests on lines of their own need not wait for each other either.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What is asked.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Marks the answer; a request without one wants none.
    pub(super) id: Option<Value>,
    /// What is to be done.
    pub(super) method: String,
    /// With what: an object, or null where there was nothing.
    pub(super) params: Value,
}

/// Why a request gets an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    /// It is not JSON.
    Parse,
    /// It is JSON, and no request.
    InvalidRequest,
    /// Nobody knows the method.
    MethodNotFound,
    /// The method's parameters are others.
    InvalidParams,
    /// It was understood and refused; `data.code` says why. The first number that is left to servers.
    Refused,
}

impl Code {
    const fn number(self) -> i32 {
        match self {
            Self::Parse => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::Refused => -32000,
        }
    }
}

/// What is answered in place of a result.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    code: Code,
    message: String,
    /// A word for programs, where there is one.
    word: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), word: None }
    }

    /// A request was understood and refused.
    pub(super) fn refused(word: String, message: String) -> Self {
        Self { code: Code::Refused, message, word: Some(word) }
    }
}

/// Reads a line. Where it is no request the answer is given, for the id that it has.
pub(super) fn parse(line: &str) -> Result<Request, Value> {
    let value = serde_json::from_str(line).map_err(|error| {
        failure(&Value::Null, &Failure::new(Code::Parse, format!("this is not JSON: {error}")))
    })?;
    let invalid = |id: &Value, message| failure(id, &Failure::new(Code::InvalidRequest, message));
    let mut fields = match value {
        Value::Object(fields) => fields,
        Value::Array(_) => {
            let message = "batches are not taken: write each request on a line of its own";
            return Err(invalid(&Value::Null, message));
        }
        _ => return Err(invalid(&Value::Null, "a request is an object")),
    };
    let id = fields.remove("id");
    if matches!(id, Some(Value::Object(_) | Value::Array(_) | Value::Bool(_))) {
        return Err(invalid(&Value::Null, "an id is a string, a number or null"));
    }
    request(id.clone(), fields).map_err(|message| invalid(&id.unwrap_or_default(), message))
}

fn request(id: Option<Value>, mut fields: Map<String, Value>) -> Result<Request, &'static str> {
    if fields.get("jsonrpc").is_none_or(|version| version != "2.0") {
        return Err(r#"a request says "jsonrpc":"2.0""#);
    }
    let Some(Value::String(method)) = fields.remove("method") else {
        return Err("a request names its method");
    };
    let params = fields.remove("params").unwrap_or_default();
    if !matches!(params, Value::Null | Value::Object(_)) {
        return Err("params are an object: they are given by name");
    }
    Ok(Request { id, method, params })
}

/// The parameters as a method knows them.
pub(super) fn params<T: DeserializeOwned>(params: Value) -> Result<T, Failure> {
    let params = if params.is_null() { Value::Object(Map::new()) } else { params };
    let parsed = serde_json::from_value(params);
    parsed.map_err(|error| Failure::new(Code::InvalidParams, error.to_string()))
}

/// The answer to a request that was done.
pub(super) fn success(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// The answer to a request that was not.
pub(super) fn failure(id: &Value, failure: &Failure) -> Value {
    let Failure { code, message, word } = failure;
    let mut error = json!({ "code": code.number(), "message": message });
    if let (Some(word), Some(error)) = (word, error.as_object_mut()) {
        error.insert("data".to_owned(), json!({ "code": word }));
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// Something that happened, told unasked.
pub(super) fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id and the code that a line is answered with.
    fn refused(line: &str) -> (Value, i64) {
        let answer = parse(line).unwrap_err();
        assert_eq!(answer["jsonrpc"], "2.0");
        (answer["id"].clone(), answer["error"]["code"].as_i64().unwrap())
    }

    #[test]
    fn a_request_is_read_with_and_without_an_id() {
        let asked = parse(r#"{"jsonrpc":"2.0","id":7,"method":"send","params":{"a":1}}"#).unwrap();
        let params = json!({"a": 1});
        assert_eq!(asked, Request { id: Some(7.into()), method: "send".to_owned(), params });
        let told = parse(r#"{"jsonrpc":"2.0","method":"x"}"#).unwrap();
        assert_eq!((told.id, told.params), (None, Value::Null));
        let null = parse(r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#).unwrap();
        assert_eq!(null.id, Some(Value::Null));
    }

    #[test]
    fn what_is_no_request_is_answered_with_the_specifications_codes() {
        for line in ["", "{", "nonsense", "{\"a\":1} x", &"[".repeat(100_000)] {
            assert_eq!(refused(line), (Value::Null, -32700), "{line:.20}");
        }
        for line in ["1", "[]", "null", r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#, "{}"] {
            assert_eq!(refused(line), (Value::Null, -32600), "{line}");
        }
        for line in [
            r#"{"id":"a","method":"x"}"#,
            r#"{"jsonrpc":"1.0","id":"a","method":"x"}"#,
            r#"{"jsonrpc":2.0,"id":"a","method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":"a"}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":1}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"x","params":1}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"x","params":[1]}"#,
        ] {
            assert_eq!(refused(line), ("a".into(), -32600), "{line}");
        }
        let nested = r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#;
        assert_eq!(refused(nested), (Value::Null, -32600));
    }

    #[test]
    fn answers_say_what_the_specification_wants() {
        let done = success(&1.into(), &json!({"id": "x"}));
        assert_eq!(done.to_string(), r#"{"id":1,"jsonrpc":"2.0","result":{"id":"x"}}"#);
        let told = notification("ready", &json!({}));
        assert_eq!(told.to_string(), r#"{"jsonrpc":"2.0","method":"ready","params":{}}"#);
        let refused = Failure::refused("unknown_contact".to_owned(), "who?".to_owned());
        assert_eq!(
            failure(&"a".into(), &refused)["error"],
            json!({"code": -32000, "message": "who?", "data": {"code": "unknown_contact"}})
        );
        let unknown = failure(&Value::Null, &Failure::new(Code::MethodNotFound, "no"));
        assert_eq!(unknown["error"], json!({"code": -32601, "message": "no"}));
    }

    #[test]
    fn parameters_that_do_not_fit_are_refused() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            name: String,
        }
        let wanted = params::<Wanted>(json!({"name": "bob"}));
        assert_eq!(wanted, Ok(Wanted { name: "bob".to_owned() }));
        for other in [Value::Null, json!({}), json!({"name": 1}), json!({"name": "b", "x": 1})] {
            assert_eq!(params::<Wanted>(other).unwrap_err().code, Code::InvalidParams);
        }
    }
}
