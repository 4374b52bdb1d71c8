#include "lib/jinja/template.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"

namespace plumb::jinja {
namespace {

Value text_of(std::string_view text, char mark = kTemplateMark) { return Runtime::wrap_text(Text(text, mark)); }

std::vector<std::pair<std::string, Value>> variables() {
  Runtime runtime(Limits(), 0);
  const auto number = [](int64_t value) { return Value(value); };
  return {{"n", number(7)},
          {"s", text_of(" Hello World \n", kUserMark)},
          {"u", text_of("na\xC3\xAFve \xF0\x9F\x99\x82", kUserMark)},
          {"l", runtime.make_sequence({number(3), number(1), number(2)})},
          {"d", runtime.make_dict({{text_of("b"), number(1)}, {text_of("a"), text_of("x")}})}};
}

std::string render(std::string_view source) { return Template(source).render(variables(), 0).bytes; }

// The output with user text in braces.
std::string marked(std::string_view source) {
  const Text text = Template(source).render(variables(), 0);
  EXPECT_EQ(text.bytes.size(), text.marks.size());
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_user = text.marks[i] == kUserMark;
    const bool was_user = i > 0 && text.marks[i - 1] == kUserMark;
    if (is_user && !was_user) out += '{';
    if (!is_user && was_user) out += '}';
    out += text.bytes[i];
  }
  return text.size() > 0 && text.marks.back() == kUserMark ? out + '}' : out;
}

std::string error_of(std::string_view source) {
  try {
    return "no error, but: " + render(source);
  } catch (const DataError& error) {
    return error.what();
  }
}

void expect_error(std::string_view source, std::string_view part) {
  const std::string error = error_of(source);
  EXPECT_TRUE(error.starts_with("chat template: ")) << source.substr(0, 200) << "\n" << error;
  EXPECT_NE(error.find(part), std::string::npos) << source.substr(0, 200) << "\n" << error;
}

std::string repeated(std::string_view part, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += part;
  return out;
}

TEST(Jinja, WhitespaceControlTrimsBlocksAndTheirIndentation) {
  EXPECT_EQ(render("a\n  {% if n %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(render("a\n  {%- if n -%}\n  b\n  {%- endif -%}\nc\n"), "abc");
  EXPECT_EQ(render("a\n  {%+ if n +%}\n  b\n  {%+ endif +%}\nc\n"), "a\n  \n  b\n  \nc");
  EXPECT_EQ(render("  {{ n }}\n  {{- n -}}  \n x"), "  77x");
  EXPECT_EQ(render("  {# c #}\na {# d #} b\n {#- e -#}\n f"), "a  bf");
  EXPECT_EQ(render("x {% if n %} y {% endif %} z"), "x  y  z");
  EXPECT_EQ(render("{{ n }}\r\na\rb\n"), "7\na\nb");
  EXPECT_EQ(render("a {%- raw -%}  {{ x }} \n {%- endraw -%}  b"), "a{{ x }}b");
}

TEST(Jinja, ArithmeticIsAsInPython) {
  EXPECT_EQ(render("{{ 7 // -2 }} {{ -7 % 3 }} {{ 10 / 4 }} {{ 2 ** 3 ** 2 }} {{ 2 ** -1 }} {{ 7.5 // 2 }}"),
            "-4 2 2.5 64 0.5 3.0");
  EXPECT_EQ(render("{{ 1e15 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 1/3 }}"),
            "1000000000000000.0 1e+16 1e-05 0.30000000000000004 0.3333333333333333");
  EXPECT_EQ(render("{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ true == 1 }} {{ '1' == 1 }} {{ true + 1 }} {{ -3|abs }}"),
            "True False True False 2 3");
}

TEST(Jinja, OperatorsBindAsInJinja) {
  EXPECT_EQ(render("{{ (1 + 1) ~ 2 }} {{ not n == 7 }} {{ n is odd and l|length == 3 }} {{ 'a' ~ l|first }}"),
            "22 False True a3");
  EXPECT_EQ(render("{{ 'y' if n > 30 else 'b' if n > 20 else 'c' }}{{ 'no' if n > 30 }}"), "c");
  EXPECT_EQ(render("{{ 0 or '' or 'last' }} {{ n and 'yes' }} {{ 2 not in l }} {{ not 'a' in 'b' }}"),
            "last yes False True");
}

TEST(Jinja, SequencesIndexAndSliceByCodePoints) {
  EXPECT_EQ(render("{{ u[-1] }}{{ u[::-1][:3] }}{{ u|length }}|{{ l[::-1] }}{{ l[-2:] }}{{ l[9] }}{{ l[5:0:-1] }}"),
            "\xF0\x9F\x99\x82\xF0\x9F\x99\x82 e7|[2, 1, 3][1, 2][2, 1]");
  EXPECT_EQ(render("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{{ d['b'] }}{{ d.get('q', 5) }}"),
            "b=1;a=x;15");
}

TEST(Jinja, ValuesPrintAsInPython) {
  EXPECT_EQ(render(R"({{ [none, true, 'it\'s', "d\"q", '\n\x01\u00e9'] }})"),
            "[None, True, \"it's\", 'd\"q', '\\n\\x01\xC3\xA9']");
  EXPECT_EQ(render("{{ (1,) }}{{ {'a': 1.0, 2: []} }}"), "(1,){'a': 1.0, 2: []}");
}

TEST(Jinja, ToJsonEscapesNothingForHtml) {
  EXPECT_EQ(render("{{ [1.0, none, true, '\\u00e9\\x07<>&\"'] | tojson }}"),
            "[1.0, null, true, \"\xC3\xA9\\u0007<>&\\\"\"]");
  EXPECT_EQ(render("{{ {'b': [1, 2], 'a': {}} | tojson(indent=2) }}"),
            "{\n  \"b\": [\n    1,\n    2\n  ],\n  \"a\": {}\n}");
  EXPECT_EQ(render("{{ d | tojson(sort_keys=true, separators=(',', ':')) }}{{ u | tojson(ensure_ascii=true) }}"),
            "{\"a\":\"x\",\"b\":1}\"na\\u00efve \\ud83d\\ude42\"");
}

TEST(Jinja, StringMethodsAndFilters) {
  EXPECT_EQ(render("{{ s.strip().split('o', 1) }}{{ ' a  b c '.split(none, 1) }}{{ 'a,b'.rsplit(',') }}"),
            "['Hell', ' World']['a', 'b c ']['a', 'b']");
  EXPECT_EQ(render("{{ 'abc'.replace('', '-', 2) }} {{ 'aaa'|replace('a', 'b', 1) }} {{ 'xaxx'.strip('x') }}"),
            "-a-bc baa a");
  EXPECT_EQ(render("{{ \"they're big-foot\"|title }} {{ \"they're big-foot\".title() }} {{ 'hELLO'|capitalize }}"),
            "They're Big-Foot They'Re Big-Foot Hello");
  EXPECT_EQ(render("{{ 'a\\nb\\n\\nc'|indent(2, true) }}"), "  a\n  b\n\n  c");
  EXPECT_EQ(render("{{ 'stra\\u00dfe'.upper() }} {{ '\\u03a3\\u0391\\u03a3'|lower }}"),
            "STRASSE \xCF\x83\xCE\xB1\xCF\x82");
  EXPECT_EQ(
      render("{{ '42.7'|int + 1 }} {{ 'x'|int(5) }} {{ '0x1f'|int(0, 16) }} {{ 2.675|round(2) }} {{ 2.5|round }}"),
      "43 5 31 2.67 2.0");
}

TEST(Jinja, SequenceFiltersTakeAttributesAndTests) {
  const std::string rows = "{% set rows = [{'k': 1, 'v': {'w': 'x'}}, {'k': 2}] %}";
  EXPECT_EQ(render(rows + "{{ rows|selectattr('k', 'equalto', 1)|map(attribute='v.w')|list }}"), "['x']");
  EXPECT_EQ(render(rows + "{{ rows|rejectattr('v', 'defined')|list|length }}{{ rows|sum(attribute='k') }}"), "13");
  EXPECT_EQ(render(rows + "{{ rows|map(attribute='v.w', default='D')|join(',') }}"), "x,D");
  EXPECT_EQ(
      render("{{ l|sort|first }}{{ l|max }}{{ l|select('odd')|list }}{{ l|reverse|list }}{{ ['b','A','a']|sort }}"),
      "13[3, 1][2, 1, 3]['A', 'a', 'b']");
  EXPECT_EQ(render("{{ ['b','A','a']|unique|list }}{{ d|dictsort }}{{ ['a']|map('upper')|first }}"),
            "['b', 'A'][('a', 'x'), ('b', 1)]A");
}

TEST(Jinja, GeneratorsAreTrueAndHaveNoLength) {
  EXPECT_EQ(render("{{ 'yes' if l|select('>', 9) else 'no' }}{{ 'yes' if l|select('>', 9)|list else 'no' }}"), "yesno");
  expect_error("{{ l|select('odd')|length }}", "turn it into a list");
}

TEST(Jinja, UndefinedPrintsNothingAndRefusesUse) {
  EXPECT_EQ(render("[{{ x }}{{ x|length }}{{ x|default('q') }}{{ x is defined }}{{ d.nope }}{{ none.x }}{{ x|join }}]"),
            "[0qFalse]");
  expect_error("\n{{ x.y }}", "line 2: 'x' is undefined");
  expect_error("{{ x + 1 }}", "'x' is undefined");
  expect_error("{{ d.nope.more }}", "dict has no attribute 'nope'");
}

TEST(Jinja, LoopsHaveTheirVariableAndTheirOwnScope) {
  EXPECT_EQ(render("{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}"
                   "{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}"),
            "103TrueFalse1;212FalseFalse32;321FalseTrue1;");
  EXPECT_EQ(render("{% set x = 0 %}{% for i in l %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}"), "3120");
  EXPECT_EQ(render("{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}"),
            "6");
  EXPECT_EQ(
      render(
          "{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{% endfor %}{% for i in [] %}{% else %}none{% endfor %}"),
      "3222none");
  EXPECT_EQ(render("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i > 3 %}{% break %}{% endif %}{{ i "
                   "}}{% endfor %}"),
            "023");
}

TEST(Jinja, MacrosSetBlocksAndScopes) {
  EXPECT_EQ(
      render("{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}|{{ f(1, b=3) }}|{{ f() }}|{{ f(b=a, a=4) }}"),
      "12|13|2|4");
  EXPECT_EQ(render("{% macro f() %}{{ y }}{% endmacro %}{% set y = 3 %}{{ f() }}{% set y = 4 %}{{ f() }}"), "34");
  EXPECT_EQ(render("{% set x | upper | trim %} a{{ n }} {% endset %}[{{ x }}]{% filter upper %}b{% endfilter %}"),
            "[A7]B");
  EXPECT_EQ(render("{% generation %}a{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}"), "a1");
}

/// The spans of generations, as "begin-end;".
std::string generations(std::string_view source) {
  std::string spans;
  for (const Span& span : Template(source).render_spans(variables(), 0).generations)
    spans += fmt::format("{}-{};", span.begin, span.end);
  return spans;
}

TEST(JinjaTemplate, PlacesOfGenerationsAreThoseOfTransformers) {
  EXPECT_EQ(generations("ab{% generation %}cd{% endgeneration %}e{% generation %}{% endgeneration %}"), "2-4;5-5;");
  EXPECT_EQ(generations("{{ u }}{% generation %}{{ u }}{% endgeneration %}"), "7-14;");  // code points
  EXPECT_EQ(generations("{% for x in l %}{% generation %}{{ x }}{% endgeneration %};{% endfor %}"), "0-1;2-3;4-5;");
  // what a macro or a block captures is placed where the output outside ends
  EXPECT_EQ(generations("ab{% set q %}c{% generation %}d{% endgeneration %}{% endset %}{{ q }}"), "2-3;");
  EXPECT_EQ(generations("{% macro f() %}c{% generation %}d{% endgeneration %}{% endmacro %}ab{{ f() }}"), "2-3;");
  EXPECT_EQ(generations("a{% generation %}b{% generation %}c{% endgeneration %}{% endgeneration %}"), "1-2;1-3;");
  EXPECT_TRUE(Template("{% if false %}{% generation %}{% endgeneration %}{% endif %}").has_generations());
  EXPECT_FALSE(Template("generation").has_generations());
  EXPECT_EQ(render("{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{% set c, e = 'xy' %}{{ e ~ c }}"),
            "15yx");
}

TEST(Jinja, UserTextStaysMarkedThroughEveryOperation) {
  EXPECT_EQ(marked("<{{ s }}>"), "<{ Hello World \n}>");
  EXPECT_EQ(marked("{{ 'a' + s|trim ~ 'b' }}"), "a{Hello World}b");
  EXPECT_EQ(marked("{{ s.split()|join('-') }}{{ s[1:3] }}{{ s[::-1][-3:] }}"), "{Hello}-{WorldHeeH }");
  EXPECT_EQ(marked("{{ s.strip().replace('World', '!').upper() }}"), "{HELLO }!");
  EXPECT_EQ(marked("{{ 'a b'.replace(' ', s.strip()) }}"), "a{Hello World}b");
  EXPECT_EQ(marked("{{ {'k': s} | tojson }}"), "{\"k\": \"{ Hello World \\n}\"}");
  EXPECT_EQ(marked("{{ [s.strip()] }}"), "['{Hello World}']");
  EXPECT_EQ(marked("{% macro f(x) %}({{ x }}){% endmacro %}{{ f(u|first) }}"), "({n})");
  EXPECT_EQ(marked("{% set x %}a{{ u[0] }}{% endset %}{{ x * 2 }}"), "a{n}a{n}");
  EXPECT_EQ(marked("{% for c in u[:2] %}{{ c|upper }},{% endfor %}"), "{N},{A},");
  EXPECT_EQ(marked("{{ s|trim|indent(1, true) }}{{ s.strip()|center(13) }}"), " {Hello World} {Hello World} ");
  EXPECT_EQ(marked("{{ strftime_now(u[:2]) }}{{ n }}"), "{na}7");
  EXPECT_EQ(marked("{{ u|list|map('upper')|join }}"), "{NA\xC3\x8FVE \xF0\x9F\x99\x82}");
}

TEST(Jinja, UserTextStaysMarkedThroughFormats) {
  EXPECT_EQ(marked("{{ '<%s|%4s>' % (s.strip(), u[0]) }}{{ '%(a)r' % {'a': u[:2]} }}"), "<{Hello World}|   {n}>'{na}'");
  EXPECT_EQ(marked("{{ '<{}|{a:>3}|{b[0]}>'.format(u[:2], a=u[0], b=s.split()) }}"), "<{na}|  {n}|{Hello}>");
  EXPECT_EQ(marked("{{ u[:1].format(1) }}{{ (u[0] ~ '%d') % 5 }}{{ (u[0] ~ '{}').format(n) }}"), "{nn}5{n}7");
  // in a format of the user all is the user's, and characters of numbers are nobody else's
  const Text text = Template("{{ x % (60, 5) }}{{ y.format(60) }}{{ '%c' % 60 }}")
                        .render({{"x", text_of("%c%3d", kUserMark)}, {"y", text_of("{:c}{{", kUserMark)}}, 0);
  EXPECT_EQ(text.bytes, "<  5<{<");
  EXPECT_EQ(text.marks, std::string(text.size(), kUserMark));
}

TEST(Jinja, UserTextStaysMarkedThroughFiltersOfPages) {
  EXPECT_EQ(marked("{{ ('<' ~ u[0] ~ '>')|e }}{{ ('<b>' ~ u[0] ~ ' x</b>')|striptags }}"), "&lt;{n}&gt;{n} x");
  EXPECT_EQ(marked("{{ (u[2:4] ~ '/')|urlencode }}{{ {'a': u[0]}|xmlattr }}"), "{%C3%AFv}/ a=\"{n}\"");
  EXPECT_EQ(marked("{{ u[0].swapcase() }}{{ u[0].center(3, '*') }}{{ u[0].zfill(2) }}{{ u[0].partition('x')[0] }}"),
            "{N}*{n}*0{nn}");
  EXPECT_EQ(marked("{% macro f() %}[{{ caller(u[0]) }}]{% endmacro %}{% call(x) f() %}{{ x }}!{% endcall %}"),
            "[{n}!]");
  EXPECT_EQ(marked("{% for c in [u[0]] recursive %}{{ c }}{{ loop([]) }}.{% endfor %}"), "{n}.");
  EXPECT_EQ(marked("{{ ['a', u[0]]|batch(1)|map('first')|join('-') }}{% set j = joiner(u[0]) %}{{ j() }}{{ j() }}"),
            "a-{nn}");
}

TEST(Jinja, UnsupportedNamesReportLineAndAlternatives) {
  expect_error("\n\n{{ n|nope }}", "line 3: filter 'nope' is not supported; supported: abs,");
  expect_error("\n{{ n is nope }}", "line 2: test 'nope' is not supported; supported: ");
  expect_error("{% include 'x' %}", "line 1: statement 'include' is not supported: a chat template is one file");
  expect_error("{% do l.append(1) %}",
               "line 1: statement 'do' is not supported; supported: for, if, set, macro, call,");
  expect_error("{{ l|random }}", "filter 'random' is not supported: the same row must give the same text");
  expect_error("{{ lipsum() }}", "function 'lipsum' is not supported: the same row must give the same text");
  expect_error("\n{{ nope(1) }}", "line 2: function 'nope' is not defined; supported: raise_exception,");
  expect_error("{{ s.encode() }}", "str has no method 'encode'; supported: capitalize,");
  expect_error("{{ l.append(1) }}", "'append' changes a list, which templates must not");
  expect_error("{{ s|trim(1, 2) }}", "trim takes at most 1 arguments");
  expect_error("{{ s|indent(wide=1) }}", "indent has no argument 'wide'; it has: width, first, blank");
  expect_error("{{ l|map('nope')|list }}", "filter 'nope' is not supported");
}

TEST(Jinja, ReflectionIsRefused) {
  expect_error("{{ s.__class__ }}", "attribute '__class__' is refused");
  expect_error("{{ __import__ }}", "name '__import__' is refused");
  EXPECT_EQ(render("{{ s['__class__'] }}{{ s|attr('__class__') }}{% for _ in l %}x{% endfor %}"), "xxx");
}

TEST(Jinja, SyntaxErrorsReportLineAndExpectation) {
  expect_error("\n{{ 1 + }}", "line 2: expected an expression, found the end of the expression");
  expect_error("\n{{ (1 }}", "line 2: unexpected '}', expected ')'");
  expect_error("{% if n %}", "expected '{% elif %}' or '{% else %}' or '{% endif %}', found the end of the template");
  expect_error("{% endfor %}", "'endfor' without the statement");
  expect_error("{% break %}", "'break' outside a loop");
  expect_error("{# abc", "comment has no end");
  expect_error("{{ 'abc", "string has no end");
  expect_error("{% raw %}abc", "raw block has no end");
  expect_error("{{ n", "tag has no end");
  expect_error("{{ 99999999999999999999 }}", "is not a number");
  expect_error("{{ '\\ud800' }}", "is not a character");
}

TEST(Jinja, RaiseExceptionIsAnError) {
  expect_error("\n{{ raise_exception('roles!') }}", "line 2: the template refuses the conversation: roles!");
}

TEST(Jinja, StrftimeNowFormatsTheGivenTime) {
  const std::time_t noon = 1'700'000'000;
  std::tm local{};
  localtime_r(&noon, &local);
  char expected[32];
  std::strftime(expected, sizeof expected, "%d %b %Y", &local);
  EXPECT_EQ(Template("{{ strftime_now('%d %b %Y') }}").render({}, noon).bytes, expected);
}

TEST(Jinja, HostileNestingIsAnError) {
  expect_error("{{ " + repeated("(", 100'000) + "1" + repeated(")", 100'000) + " }}", "nested deeper than");
  expect_error("{{ " + repeated("not ", 100'000) + "1 }}", "nested deeper than");
  expect_error("{{ " + repeated("1 if 1 else ", 50'000) + "1 }}", "nested deeper than");
  expect_error("{{ 1" + repeated("+1", 100'000) + " }}", "deeper than");
  expect_error("{{ x" + repeated(".a", 100'000) + " }}", "deeper than");
  expect_error("{{ 1" + repeated("|string", 100'000) + " }}", "deeper than");
  expect_error(repeated("{% if 1 %}", 80'000), "nested deeper than");
  expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion deeper than");
  expect_error("{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}",
               "nests values deeper");
  expect_error("{{ 'a'|map(" + repeated("'map',", 50'000) + "'upper')|list }}", "");
  expect_error(std::string((1 << 20) + 1, 'x'), "expected at most 1048576");
}

TEST(Jinja, HostileSizesHitTheLimits) {
  expect_error("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
               "budget of 5000000 steps");
  expect_error("{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(24) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
               "67108864 bytes");
  expect_error("{{ 'a' * 99999999999999 }}", "");
  expect_error("{{ [1] * 99999999999999 }}", "steps");
  expect_error("{{ ('a' * 100000).replace('', 'b' * 1000) }}", "");
  expect_error(
      "{% set ns = namespace(l=['a']) %}{% for i in range(23) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ "
      "ns.l|tojson }}",
      "steps");
  expect_error("{{ range(100001) }}", "more than 100000 numbers");
  for (const char* source :
       {"{{ '%999999999d' % 1 }}", "{{ '%.999999999d' % 1 }}", "{{ '%.999999999f' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}", "{{ '{:999999999}'.format(1) }}", "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ '{:0999999999,}'.format(1) }}", "{{ '{:.999999999f}'.format(1.5) }}", "{{ 'a'.center(9999999999) }}",
        "{{ 'a'.zfill(9999999999) }}", "{{ 'a\t'.expandtabs(9999999999) }}", "{{ l|batch(9999999999, 1)|list }}",
        "{{ l|slice(9999999999)|list }}"})
    expect_error(source, "");
  expect_error("{% for x in [l] recursive %}{{ loop([x]) }}{% endfor %}", "recursion deeper than");
  expect_error("{% macro f() %}{{ caller is defined }}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
               "recursion deeper than");
  Limits limits;
  limits.output_bytes = 10;
  EXPECT_THROW(Template("{{ n }}1234567890x").render({}, 0, limits), DataError);
}

TEST(Jinja, CyclesThroughNamespacesDoNotLeak) {
  EXPECT_EQ(
      render("{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.b = [ns] %}{% for i in l %}{% set ns.c = loop %}"
             "{% endfor %}{{ ns.c.index }}"),
      "4");
}

TEST(Jinja, IntegerOverflowIsAnError) {
  expect_error("{{ 9223372036854775807 + 1 }}", "does not fit 64 bits");
  expect_error("{{ (-9223372036854775807 - 1) // -1 }}", "does not fit 64 bits");
  expect_error("{{ 3 ** 100 }}", "does not fit 64 bits");
  expect_error("{{ 1 % 0 }}", "division by zero");
  EXPECT_EQ(render("{{ l[-9223372036854775807:9223372036854775807:9223372036854775807] }}"), "[3]");
}

TEST(Jinja, InvalidUtf8PassesThrough) {
  const Text text = Template("{{ x|upper }}{{ x|length }}{{ x[::-1]|length }}{{ x|trim|title }}")
                        .render({{"x", text_of("a\xFF\xC3 \x85")}}, 0);
  EXPECT_EQ(text.bytes,
            "A\xFF\xC3 \x85"
            "55"
            "A\xFF\xC3 \x85");
}

}  // namespace
}  // namespace plumb::jinja
