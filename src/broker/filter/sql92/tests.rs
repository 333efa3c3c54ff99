use super::*;

fn compile(text: &str) -> Result<Expression, CompileError> {
    Expression::compile(text, &Limits::default())
}

/// `a=5 b=x` as a property string.
fn properties(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for item in text.split(' ').filter(|item| !item.is_empty()) {
        let (name, value) = item.split_once('=').unwrap();
        properties::append(&mut out, name, value.replace('_', " ").as_bytes());
    }
    out
}

/// `true`, `false`, `null`, `fault` or `error`.
fn outcome(text: &str, having: &str) -> &'static str {
    let Ok(expression) = compile(text) else { return "error" };
    match expression.evaluate(&properties(having)) {
        Ok(Some(true)) => "true",
        Ok(Some(false)) => "false",
        Ok(None) => "null",
        Err(_) => "fault",
    }
}

fn check(rows: &[(&str, &str, &str)]) {
    for (text, having, expected) in rows {
        assert_eq!(outcome(text, having), *expected, "{text} with {having:?}");
    }
}

#[test]
fn the_outcomes_that_were_observed_on_java_are_kept() {
    check(&[
        ("a > 3", "a=5", "true"),
        ("a > 3", "a=abc", "fault"),
        ("a > 3", "", "null"),
        ("a = 5", "a=5.0", "fault"),
        ("a = 5.0", "a=5", "true"),
        ("a = '5'", "a=5", "true"),
        ("a = 5e0", "a=5", "true"),
        ("a = 1l", "a=1", "true"),
        ("a = TRUE", "a=true", "true"),
        ("a = TRUE", "a=TRUE", "true"),
        ("a = TRUE", "a=yes", "false"),
        ("TRUE = a", "a=true", "fault"),
        ("a", "a=true", "false"),
        ("NOT a", "a=true", "true"),
        ("a <> 'x'", "", "null"),
        ("'x' <> a", "", "true"),
        ("NOT ('x' = a)", "", "true"),
        ("a NOT IN ('1','2')", "", "null"),
        ("a > b", "a=5 b=10", "false"),
        ("a > b", "a=x b=y", "fault"),
        ("a = 5 garbage here", "a=5", "true"),
        ("a = 007", "a=0", "true"),
        ("a = 5 -- c", "a=5", "true"),
        ("a LIKE 'x%'", "a=x", "false"),
        ("a + 1 = 6", "a=5", "false"),
        ("a IN (1,2)", "a=1", "error"),
        ("a = 0.0", "a=0", "error"),
        ("a = NULL", "", "error"),
        ("a IS TRUE", "", "error"),
        ("a != 5", "a=5", "error"),
        ("a.b = 1", "", "error"),
        ("5", "", "error"),
        ("", "", "error"),
        ("a >= 5", "a=_5", "fault"),
        ("a > 3 OR b > 3", "b=5", "true"),
        ("a > 3 AND b > 3", "b=5", "null"),
        ("1 = 1", "", "true"),
        ("TRUE", "", "true"),
    ]);
}

/// Every pair of true, false, unknown and fault under AND, OR and NOT.
#[test]
fn the_truth_table_has_three_values_and_faults_count_only_when_reached() {
    let operand = |name: &str| match name {
        "true" => "t = 1",
        "false" => "t = 2",
        "null" => "none = 1",
        _ => "x = 1",
    };
    let names = ["true", "false", "null", "fault"];
    let and = [
        ["true", "false", "null", "fault"],
        ["false", "false", "false", "false"],
        ["null", "false", "null", "fault"],
        ["fault", "fault", "fault", "fault"],
    ];
    let or = [
        ["true", "true", "true", "true"],
        ["true", "false", "null", "fault"],
        ["true", "null", "null", "fault"],
        ["fault", "fault", "fault", "fault"],
    ];
    for (row, first) in names.iter().enumerate() {
        for (column, second) in names.iter().enumerate() {
            for (word, table) in [("AND", and), ("OR", or)] {
                let text = format!("{} {word} {}", operand(first), operand(second));
                assert_eq!(outcome(&text, "t=1 x=x"), table[row][column], "{text}");
            }
        }
        let not = ["false", "true", "null", "fault"][row];
        assert_eq!(outcome(&format!("NOT ({})", operand(first)), "t=1 x=x"), not);
    }
}

#[test]
fn comparisons_read_a_property_as_the_type_of_the_other_side() {
    check(&[
        ("5 = a", "a=5", "true"),
        ("5 = a", "a=5.0", "fault"),
        ("5.0 = a", "a=5.0d", "true"),
        ("'5' = 5", "", "true"),
        ("'x' = 5", "", "fault"),
        ("a = 3000000000", "a=3000000000", "true"),
        ("a = 5", "a=3000000000", "fault"),
        ("5 = TRUE", "", "false"),
        ("(a = 1) = TRUE", "a=1", "true"),
        ("(a = 1) = 'true'", "a=1", "fault"),
        ("'true' = (a = 1)", "a=1", "true"),
        ("a = b", "a=5 b=5.0", "false"),
        ("a = b", "", "true"),
        ("a = b", "a=1", "false"),
        ("a = b", "b=1", "null"),
        ("a >= b", "a=NaN b=Infinity", "true"),
        ("a > b", "a=0.0 b=-0.0", "true"),
        ("5 > 3", "", "true"),
        ("5l > 3.5", "", "true"),
        ("a > 9223372036854775807", "a=1", "false"),
        ("-a = 5", "a=-5", "null"),
        ("-a IS NULL", "a=-5", "true"),
        ("a = -5", "a=-5", "true"),
        ("a = - -5", "a=5", "true"),
        ("a = +5", "a=5", "true"),
        ("NOT a = 5", "a=5", "false"),
        ("NOT (a = 5)", "a=6", "true"),
        ("NULL IS NULL", "", "true"),
        ("NOT NULL", "", "null"),
        ("a IS NULL IS NULL", "", "false"),
    ]);
}

#[test]
fn between_and_in_are_javas() {
    check(&[
        ("a BETWEEN 1 AND 3", "a=3", "true"),
        ("a BETWEEN 1 AND 3", "a=4", "false"),
        ("a BETWEEN 1 AND 3", "", "null"),
        ("a NOT BETWEEN 1 AND 3", "a=4", "true"),
        ("a NOT BETWEEN 1 AND 3", "a=1", "false"),
        ("a BETWEEN 3 AND 1", "", "error"),
        ("a NOT BETWEEN 3 AND 1", "a=2", "true"),
        ("a BETWEEN 1 AND 1.5", "a=1", "true"),
        ("a BETWEEN 1 AND b", "a=1", "null"),
        ("a BETWEEN 2 AND b", "a=1", "false"),
        ("a BETWEEN b AND 0", "a=1", "false"),
        ("a NOT BETWEEN b AND 0", "a=1", "true"),
        ("a BETWEEN 2 AND x", "a=1 x=x", "false"),
        ("a BETWEEN NULL AND 1", "", "error"),
        ("a BETWEEN 'a' AND 'b'", "", "error"),
        ("a BETWEEN 1 AND 2 AND b = 1", "a=1 b=1", "true"),
        ("a IN ('x','it''s')", "a=it's", "true"),
        ("a NOT IN ('x','y')", "a=z", "true"),
        ("(a) IN ('x')", "a=x", "true"),
        ("NOT a IN ('x')", "a=x", "error"),
        ("'a' IN ('a')", "", "error"),
        ("a IN ()", "", "error"),
    ]);
}

#[test]
fn tokens_are_cut_as_java_cuts_them() {
    check(&[
        ("a=5and b=6", "a=5 b=6", "true"),
        ("a Is nOt NuLl", "a=1", "true"),
        ("A = 5", "a=5", "null"),
        ("$_9 = 1", "$_9=1", "true"),
        ("a /* = 6 **/ = 5", "a=5", "true"),
        ("a -- x\n = 5", "a=5", "true"),
        ("a -- x\r\n = 5", "a=5", "true"),
        ("a /* = 5", "a=5", "error"),
        ("a = .5e1", "a=5", "true"),
        ("a = 5.", "a=5", "true"),
        ("a = 5e", "a=5", "true"),
        ("a = 0x5", "a=0", "true"),
        ("a = 1e999", "", "error"),
        ("a = 9223372036854775808", "", "error"),
        ("a = 'x", "a=x", "error"),
        ("a = 'x''", "a=x", "error"),
        ("a = 5 'x''y", "a=5", "true"),
        ("a = 5 junk #", "a=5", "true"),
        ("a = 5 #", "a=5", "error"),
        ("a = 5 )", "a=5", "true"),
        ("(a = 5", "a=5", "error"),
        ("a = 5 NOT", "a=5", "error"),
        ("a NOT NULL", "a=5", "error"),
        ("a = 5 AND", "a=5", "error"),
        ("a = 5 AND 5", "a=5", "error"),
        ("TRUE = 5", "", "error"),
        ("a > 'x'", "", "error"),
        ("a > TRUE", "", "error"),
        ("(a > 1) > 1", "", "error"),
        ("-5", "", "error"),
        ("\u{e9} = 1", "", "error"),
        ("a = '\u{e9}\u{1f525}'", "a=\u{e9}\u{1f525}", "true"),
    ]);
}

#[test]
fn an_error_says_where_and_what() {
    let error = |text: &str| compile(text).unwrap_err().to_string();
    let start = "Invalid MessageSelector. Line";
    assert_eq!(
        error("a != 5"),
        format!("{start} 1, column 3: no word, number or operator begins with '!'")
    );
    assert_eq!(
        error("a = 5\nAND >"),
        format!("{start} 2, column 5: encountered >, expected a property, a constant or (")
    );
    assert_eq!(
        error("\u{e9}"),
        format!("{start} 1, column 1: no word, number or operator begins with '\u{e9}'")
    );
    assert_eq!(
        error("a = '\u{e9}' AND 5"),
        format!("{start} 1, column 13: Expression will not result in a boolean value: 5")
    );
    assert_eq!(
        error("a > 5 AND b > 'x'"),
        format!("{start} 1, column 15: Value ''x'' cannot be compared.")
    );
    let long = format!("a = 5 AND ({} 5", "x".repeat(10_000));
    assert!(error(&long).len() < 400, "an error has a bound");
}

#[test]
fn size_depth_and_count_are_bounded() {
    let deep = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(compile(&deep(90)).is_ok());
    assert!(compile(&deep(1_000)).unwrap_err().reason.contains("levels deep"));
    assert!(compile(&deep(20_000)).unwrap_err().reason.contains("levels deep"));
    assert!(compile(&"NOT ".repeat(10_000)).is_err());
    assert!(compile(&format!("a{}", " IS NULL".repeat(200))).is_err());
    let wide = |n: usize| vec!["a = 1"; n].join(" OR ");
    assert!(compile(&wide(300)).is_ok());
    assert!(compile(&wide(400)).unwrap_err().reason.contains("more than 1000"));
    let list = |n: usize| format!("a IN ({})", vec!["'0123456789'"; n].join(","));
    assert!(compile(&list(5_000)).is_ok());
    assert!(compile(&list(6_000)).unwrap_err().reason.contains("at most 65536"));
}

#[test]
fn many_properties_are_found_as_few_are() {
    let names: Vec<String> = (0..20).map(|at| format!("p{at} = {at}")).collect();
    let having: Vec<String> = (0..20).map(|at| format!("p{at}={at}")).collect();
    assert_eq!(outcome(&names.join(" AND "), &having.join(" ")), "true");
    assert_eq!(outcome("a = 2", "a=1 a=2"), "true", "the last value counts");
}
