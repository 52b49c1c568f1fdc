//! Plane's descriptions are HTML; agents and task lines need text. One paragraph, list item or table
//! row is one line, whatever its length; emphasis leaves no marks; a link keeps its target.
//!
//! Only HTML's tokens are read and no tree is built, so that the time is linear in the size however
//! elements nest. (Not in the attributes of one tag: html5ever compares each with all before it.)
//! (Measured: html2text took 27 s, unoptimised, for 20,000 nested `div`s, 100 KB.)

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

/// How deep quotes and lists are indented; deeper ones are shown at this depth.
const DEEPEST: usize = 8;

/// The text of an HTML fragment. Scripts, styles, comments and unknown elements' tags are left out.
pub fn html_text(html: &str) -> String {
    let tokenizer = Tokenizer::new(Sink(RefCell::default()), TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    // A script element only makes the tokenizer pause.
    while !input.is_empty() {
        let _ = tokenizer.feed(&input);
    }
    tokenizer.end();
    let lines: Vec<String> =
        tokenizer.sink.0.take().out.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

struct Sink(RefCell<Writer>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut writer = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => writer.text(&text),
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                writer.start(&tag);
                if writer.hidden {
                    return TokenSinkResult::RawData(RawKind::Rawtext);
                }
            }
            Token::TagToken(tag) => writer.end(&tag),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

/// The text so far, and what is to be written before more of it.
#[derive(Debug, Default)]
struct Writer {
    out: String,
    /// Newlines due before the next character.
    newlines: usize,
    /// A space is due before the next character.
    space: bool,
    /// A list item's bullet, due before the next character.
    bullet: Option<String>,
    /// The open lists, ordered ones with the number of their last item.
    lists: Vec<Option<u64>>,
    quotes: usize,
    preformatted: usize,
    /// Just after `<pre>`, where HTML drops one newline.
    after_pre: bool,
    /// In a table's cell, which is kept on one line.
    in_cell: bool,
    /// A cell of the same row came before.
    later_cell: bool,
    /// The open link: target, and where its text begins. Links cannot nest.
    link: Option<(String, usize)>,
    /// In a script or style element.
    hidden: bool,
}

impl Writer {
    fn start(&mut self, tag: &Tag) {
        match &*tag.name {
            "script" | "style" => self.hidden = true,
            "br" => self.line_break(),
            "hr" => {
                self.block(2);
                self.text("---");
                self.block(2);
            }
            "ul" | "ol" => {
                self.block(2);
                self.lists.push((&*tag.name == "ol").then_some(0));
            }
            "li" => {
                self.block(1);
                self.bullet = Some(self.next_bullet(tag));
            }
            "blockquote" => {
                self.block(2);
                self.quotes += 1;
            }
            "pre" => {
                self.block(2);
                self.preformatted += 1;
                self.after_pre = true;
            }
            "table" | "tr" => {
                self.in_cell = false;
                self.block(if &*tag.name == "table" { 2 } else { 1 });
                self.later_cell = false;
            }
            "td" | "th" => {
                if self.later_cell {
                    self.text(" | ");
                }
                (self.in_cell, self.later_cell) = (true, true);
            }
            "a" => self.link = Some((attribute(tag, "href").unwrap_or_default(), self.out.len())),
            "img" => self.text(&format!("[image: {}]", attribute(tag, "alt").unwrap_or_default())),
            name => self.heading_or_block(name),
        }
    }

    fn heading_or_block(&mut self, name: &str) {
        let newlines = newlines_around(name);
        if newlines > 0 {
            self.block(newlines);
        }
        if let Some(level) = heading_level(name) {
            self.bullet = Some(format!("{} ", "#".repeat(level)));
        }
    }

    fn end(&mut self, tag: &Tag) {
        match &*tag.name {
            "script" | "style" => self.hidden = false,
            "ul" | "ol" => {
                self.lists.pop();
                self.block(2);
            }
            "li" => {
                self.bullet = None;
                self.block(1);
            }
            "blockquote" => {
                self.quotes = self.quotes.saturating_sub(1);
                self.block(2);
            }
            "pre" => {
                self.preformatted = self.preformatted.saturating_sub(1);
                self.block(2);
            }
            "td" | "th" => self.in_cell = false,
            "table" => {
                self.in_cell = false;
                self.block(2);
            }
            "a" => self.end_link(),
            name if heading_level(name).is_some() => {
                self.bullet = None;
                self.block(2);
            }
            name => match newlines_around(name) {
                0 => {}
                newlines => self.block(newlines),
            },
        }
    }

    /// `* `, `1. `, or the box of a task list.
    fn next_bullet(&mut self, item: &Tag) -> String {
        match (attribute(item, "data-checked").as_deref(), self.lists.last_mut()) {
            (Some("true"), _) => "* [x] ".to_owned(),
            (Some(_), _) => "* [ ] ".to_owned(),
            (None, Some(Some(number))) => {
                *number += 1;
                format!("{number}. ")
            }
            _ => "* ".to_owned(),
        }
    }

    /// Names the target of a link whose text does not.
    fn end_link(&mut self) {
        let Some((target, begin)) = self.link.take() else { return };
        let is_web = target.starts_with("https://") || target.starts_with("http://");
        let shown = self.out.get(begin..).unwrap_or_default().trim();
        if is_web && shown != target {
            self.text(&format!(" ({target})"));
        }
    }

    /// The text before and after is kept on lines of its own; in a cell only apart. Lists have no
    /// empty lines.
    fn block(&mut self, newlines: usize) {
        self.space = true;
        if !self.in_cell {
            let newlines = if self.lists.is_empty() { newlines } else { 1 };
            self.newlines = self.newlines.max(newlines);
        }
    }

    fn line_break(&mut self) {
        self.space = true;
        if !self.in_cell {
            self.newlines += 1;
        }
    }

    fn text(&mut self, text: &str) {
        if self.hidden {
            return;
        }
        for c in text.chars() {
            let first = std::mem::take(&mut self.after_pre);
            match c {
                '\n' if self.preformatted > 0 => {
                    if !first {
                        self.line_break();
                    }
                }
                c if self.preformatted == 0 && c.is_ascii_whitespace() => self.space = true,
                c => {
                    self.begin();
                    self.out.push(c);
                }
            }
        }
    }

    /// Writes what is due before a character.
    fn begin(&mut self) {
        let newlines = std::mem::take(&mut self.newlines);
        let space = std::mem::take(&mut self.space);
        if self.out.is_empty() || newlines > 0 {
            if !self.out.is_empty() {
                self.out.extend(std::iter::repeat_n('\n', newlines));
            }
            let depth = self.lists.len() - usize::from(self.bullet.is_some() && !self.lists.is_empty());
            self.out.push_str(&"> ".repeat(self.quotes.min(DEEPEST)));
            self.out.push_str(&"  ".repeat(depth.min(DEEPEST)));
        } else if space {
            self.out.push(' ');
        }
        self.out.push_str(&self.bullet.take().unwrap_or_default());
    }
}

fn attribute(tag: &Tag, name: &str) -> Option<String> {
    tag.attrs
        .iter()
        .find(|attribute| &*attribute.name.local == name)
        .map(|attribute| attribute.value.to_string())
}

/// 1 to 6 for `h1` to `h6`.
fn heading_level(name: &str) -> Option<usize> {
    let level = name.strip_prefix('h')?.parse().ok()?;
    (1..=6).contains(&level).then_some(level)
}

/// How many newlines keep an element apart; 0 for those within a line.
fn newlines_around(name: &str) -> usize {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "dl" | "figure" | "details" => 2,
        "div" | "dt" | "dd" | "section" | "article" | "header" | "footer" | "main" | "aside" | "nav"
        | "address" | "figcaption" | "summary" | "form" | "fieldset" | "caption" => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::html_text;

    #[test]
    fn text_keeps_the_lines_of_the_page() {
        let table = [
            ("", ""),
            ("plain\ntext", "plain text"),
            ("<p>a</p><p></p><p>b</p>", "a\n\nb"),
            ("<p>Base: x<br>Skills: q<br/>r</p>", "Base: x\nSkills: q\nr"),
            ("<div>a</div><div>b</div>c", "a\nb\nc"),
            (
                "<h3>Acceptance</h3><ul><li>one</li><li><p>two</p><p>more</p></li></ul><p>end</p>",
                "### Acceptance\n\n* one\n* two\n  more\n\nend",
            ),
            ("<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>", "1. a\n  * b\n2. c"),
            (
                "<ul data-type=\"taskList\"><li data-checked=\"true\"><div><p>done</p></div></li>\
              <li data-checked=\"false\">open</li></ul>",
                "* [x] done\n* [ ] open",
            ),
            ("<p>run <code>it</code>, <strong>--dry-run</strong></p>", "run it, --dry-run"),
            ("<pre><code>\na\n\n  b &amp; c\n</code></pre><p>d</p>", "a\n\n  b & c\n\nd"),
            ("<blockquote><p>q</p><p>r</p></blockquote><hr>s", "> q\n\n> r\n\n---\n\ns"),
            (
                "<table><tr><th>k</th><th><p>v</p></th></tr><tr><td><p>a</p><p>b</p></td><td>c</td></tr></table>",
                "k | v\na b | c",
            ),
            (
                "see <a href=\"https://x.test/1\">the page</a> or <a href=\"https://x.test\">https://x.test</a>",
                "see the page (https://x.test/1) or https://x.test",
            ),
            ("<a href=\"javascript:alert(1)\">x</a> <img src=y alt=\"a cat\">", "x [image: a cat]"),
            ("a<script>alert('</p>')</script><style>p{}</style><!-- no -->b", "ab"),
            ("1 &lt; 2 &nbsp;&#x1F680;", "1 < 2 \u{a0}\u{1f680}"),
            ("<unknown-thing a=b>x</unknown-thing></p></ul></blockquote></pre></a>y", "x\n\ny"),
        ];
        for (html, text) in table {
            assert_eq!(html_text(html), text, "{html}");
        }
    }

    #[test]
    fn open_links_around_blanks_are_not_slow() {
        let (links, blanks) = (100_000, 500_000);
        let html = format!("{}<pre>{}{}", "<a>".repeat(links), " ".repeat(blanks), "</a>".repeat(links));
        assert_eq!(html_text(&html), "");
    }

    #[test]
    fn no_nesting_makes_it_slow() {
        let parts = [
            ("<div>", 100_000),
            ("<ul><li>x", 50_000),
            ("<blockquote>x", 50_000),
            ("<table><tr><td>x", 50_000),
            ("<b id=1><p>", 50_000),
            ("<a href=https://x.test>", 50_000),
            ("<pre>\n", 50_000),
            ("<script>", 50_000),
            ("<!--", 50_000),
        ];
        for (part, times) in parts {
            let html = part.repeat(times);
            let text = html_text(&html);
            assert!(text.len() <= html.len() * 10, "{part}: {} became {} bytes", html.len(), text.len());
        }
    }
}
