// Templates and what Jinja2 3.1.6 makes of them in the environment of transformers 5.23; null: it refuses them, and so
// does plumb. Each line holds what one kind of syntax has to show.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "lib/base/check.hpp"
#include "lib/jinja/template.hpp"

namespace plumb::jinja {
namespace {

using json = nlohmann::ordered_json;

Value value_of(Runtime& runtime, const json& value) {
  if (value.is_null()) return Value(None());
  if (value.is_boolean()) return Value(value.get<bool>());
  if (value.is_string()) return Runtime::wrap_text(Text(value.get<std::string>()));
  if (value.is_number_integer()) return Value(value.get<int64_t>());
  if (value.is_number()) return Value(value.get<double>());
  std::vector<Value> items;
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [key, item] : value.items()) {
    items.push_back(value_of(runtime, item));
    entries.emplace_back(Runtime::wrap_text(Text(key)), items.back());
  }
  return value.is_array() ? runtime.make_sequence(items) : runtime.make_dict(entries);
}

std::vector<std::pair<std::string, Value>> variables() {
  const json values = json::parse(R"(
    {"n": 7, "f": 2.5, "neg": -3, "s": " Hello World \n", "u": "naïve 🙂", "h": "<b>\"x\" & 'y'</b>", "e": "", "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "d": {"b": 1, "a": "x"}, "t": true, "nn": null,
     "rows": [{"k": 1, "g": "x", "v": {"w": "p"}}, {"k": 2, "g": "Y"}, {"k": 3, "g": "X", "v": {"w": "q"}}, {"k": 2, "g": "y"}],
     "tree": [{"n": "a", "c": [{"n": "b", "c": []}, {"n": "c", "c": [{"n": "d", "c": []}]}]}, {"n": "e", "c": []}]}
    )");
  Runtime runtime(Limits(), 0);
  std::vector<std::pair<std::string, Value>> variables;
  for (const auto& [name, value] : values.items()) variables.emplace_back(name, value_of(runtime, value));
  return variables;
}

struct Line {
  const char* source;
  const char* output;
};

void expect_lines(std::initializer_list<Line> lines) {
  for (const Line& line : lines) {
    try {
      const std::string output = Template(line.source).render(variables(), 0).bytes;
      if (line.output == nullptr)
        ADD_FAILURE() << line.source << "\nis not refused, but gives: " << output;
      else
        EXPECT_EQ(output, line.output) << line.source;
    } catch (const DataError& error) {
      EXPECT_EQ(line.output, nullptr) << line.source << "\n" << error.what();
    }
  }
}

TEST(Jinja2, PercentFormatsAsPythonDoes) {
  expect_lines({
      {"{{ '%s' % n }}", "7"},
      {"{{ '%s %s' % (n, s) }}", "7  Hello World \n"},
      {"{{ '%5d|%-5d|%05d|%+d|% d' % (n, n, n, n, n) }}", "    7|7    |00007|+7| 7"},
      {"{{ '%x %X %#x %o %#o' % (255, 255, 255, 8, 8) }}", "ff FF 0xff 10 0o10"},
      {"{{ '%#06x|%#6x|%-#6x|' % (255, 255, 255) }}", "0x00ff|  0xff|0xff  |"},
      {"{{ '%.3d|%5.3d|%05.3d' % (5, 5, 5) }}", "005|  005|00005"},
      {"{{ '%f %.2f %e %g %G %E' % (f, f, f, f, 1e20, f) }}", "2.500000 2.50 2.500000e+00 2.5 1E+20 2.500000E+00"},
      {"{{ '%08.2f|%-8.2f|%+.1f' % (f, f, f) }}", "00002.50|2.50    |+2.5"},
      {"{{ '%d' % 3.99 }} {{ '%d' % -3.99 }} {{ '%i %u' % (n, n) }}", "3 -3 7 7"},
      {"{{ '%c%c' % (65, 'é') }}", "Aé"},
      {"{{ '%r %a' % (u, u) }}", "'naïve 🙂' 'na\\xefve \\U0001f642'"},
      {"{{ '%(b)s-%(a)5s|' % d }}", "1-    x|"},
      {"{{ '%%' % () }} {{ '100%%' % () }}", "% 100%"},
      {"{{ '%5.2s|%-5s|' % ('abc', 'ab') }}", "   ab|ab   |"},
      {"{{ '%*d|%-*d|%.*f' % (5, n, 5, n, 2, f) }}", "    7|7    |2.50"},
      {"{{ '%s' % l }} {{ '%s' % (l,) }} {{ '%s' % d }} {{ '%s' % none }} {{ '%s' % undef }}",
       "[3, 1, 2] [3, 1, 2] {'b': 1, 'a': 'x'} None "},
      {"{{ 'abc' % l }} {{ 'abc' % d }}", "abc abc"},
      {"{{ 'abc' % 1 }}", nullptr},
      {"{{ '%s %s' % (1,) }}", nullptr},
      {"{{ '%s' % (1, 2) }}", nullptr},
      {"{{ '%d' % 'x' }}", nullptr},
      {"{{ '%x' % 1.5 }}", nullptr},
      {"{{ '%y' % 1 }}", nullptr},
      {"{{ '%' % 1 }}", nullptr},
      {"{{ '%(x)s' % d }}", nullptr},
      {"{{ '%5%|' % () }}", nullptr},
      {"{{ '%s, %s!'|format('Hi', n) }} {{ '%(a)s'|format(a=3) }} {{ 'x'|format }}", "Hi, 7! 3 x"},
      {"{{ '%s'|format(1, a=2) }}", nullptr},
  });
}

TEST(Jinja2, BracesFormatAsPythonDoes) {
  expect_lines({
      {"{{ '{} {}'.format(n, s) }}", "7  Hello World \n"},
      {"{{ '{0} {1} {0}'.format(n, f) }}", "7 2.5 7"},
      {"{{ '{a} {b!r}'.format(a=n, b=s) }}", "7 ' Hello World \\n'"},
      {"{{ '{:>8}|{:<8}|{:^8}|{:*^9}'.format('ab', 'ab', 'ab', 'ab') }}", "      ab|ab      |   ab   |***ab****"},
      {"{{ '{:5d}|{:<5d}|{:05d}|{:+d}|{: d}|{:,}|{:_}'.format(n, n, n, n, n, 1234567, 1234567) }}",
       "    7|7    |00007|+7| 7|1,234,567|1_234_567"},
      {"{{ '{:x} {:#x} {:X} {:b} {:#b} {:o} {:c}'.format(255, 255, 255, 5, 5, 8, 65) }}", "ff 0xff FF 101 0b101 10 A"},
      {"{{ '{:f} {:.2f} {:e} {:g} {:%} {:.1%}'.format(f, f, f, f, 0.25, 0.257) }}",
       "2.500000 2.50 2.500000e+00 2.5 25.000000% 25.7%"},
      {"{{ '{:010.2f}|{:+.3e}|{:G}'.format(f, f, 1e20) }}", "0000002.50|+2.500e+00|1E+20"},
      {"{{ '{:.3}|{:.1}|{:5.1}|'.format('abcdef', f, f) }}", "abc|2e+00|2e+00|"},
      {"{{ '{:010,}|{:,.2f}|{:_x}|{:_b}'.format(1234, 1234567.891, 1048575, 255) }}",
       "00,001,234|1,234,567.89|f_ffff|1111_1111"},
      {"{{ '{:{}}|{:{w}.{p}f}'.format('a', 5, f, w=8, p=1) }}", "a    |     2.5"},
      {"{{ '{d[b]} {d.a} {l[0]} {l[2]}'.format(d=d, l=l) }}", "1 x 3 2"},
      {"{{ '{{}} {{{}}}'.format(n) }}", "{} {7}"},
      {"{{ '{!r:>12}|{!s}|{!a}'.format('é', u, u) }}", "         'é'|naïve 🙂|'na\\xefve \\U0001f642'"},
      {"{{ '{a}'.format_map({'a': 1}) }}", "1"},
      {"{{ '{} {} {}'.format(none, true, l) }} {{ '{:d}'.format(true) }} {{ '[{:5}]'.format(true) }}",
       "None True [3, 1, 2] 1 [    1]"},
      {"{{ '{}'.format(undef) }}", ""},
      {"{{ '{'.format(1) }}", nullptr},
      {"{{ '}'.format(1) }}", nullptr},
      {"{{ '{} {0}'.format(1) }}", nullptr},
      {"{{ '{1}'.format(1) }}", nullptr},
      {"{{ '{x}'.format(y=1) }}", nullptr},
      {"{{ '{:d}'.format('x') }}", nullptr},
      {"{{ '{:s}'.format(1) }}", nullptr},
      {"{{ '{:>5}'.format(none) }}", nullptr},
      {"{{ '{:.2}'.format(1) }}", nullptr},
      {"{{ '{:,s}'.format('x') }}", nullptr},
      {"{{ '{:=5}'.format('x') }}", nullptr},
      {"{{ '{.a}'.format(d) }}", nullptr},
      {"{{ '{0.a}'.format(d) }} {{ '{0[a]}'.format(d) }}", "x x"},
      {"{{ '{0.__class__}'.format(d) }}|", "|"},
      {"{{ '{:{:{}}}'.format(1, 2, 3) }}", nullptr},
      {"{{ '{:n}|{:n}|{:.3n}'.format(n, f, 1234567.0) }}", "7|2.5|1.23e+06"},
      {"{{ '{:z.1f}|{:z.0f}'.format(-0.01, -3.0) }}", "0.0|-3"},
      {"{{ '{:#.3g}|{:#x}|{:.0f}|{:#.0f}'.format(1.0, 10, 2.5, 3.0) }}", "1.00|0xa|2|3."},
      {"{{ '{:é>5}|{:🙂^5}'.format('a', 'b') }}", "ééééa|🙂🙂b🙂🙂"},
  });
}

TEST(Jinja2, MethodsOfTextsListsAndDicts) {
  expect_lines({
      {"{{ 'Hello World'.swapcase() }} {{ 'Straße'.casefold() }} {{ 'ab'.center(7, '*') }}|{{ 'ab'.ljust(5) }}|{{ "
       "'ab'.rjust(5, '.') }}",
       "hELLO wORLD strasse ***ab**|ab   |...ab"},
      {"{{ '-42'.zfill(6) }} {{ '42'.zfill(1) }} {{ '+4é'.zfill(5) }}", "-00042 42 +004é"},
      {"{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('=') }} {{ 'abc'.rpartition('=') "
       "}}",
       "('a', '=', 'b=c') ('a=b', '=', 'c') ('abc', '', '') ('', '', 'abc')"},
      {"{{ 'a,b,a'.index('a', 1) }} {{ 'a,b,a'.rindex('a') }} {{ 'éa,b'.find('a') }} {{ 'abc'.find('', 3) }} {{ "
       "'abc'.find('', 4) }}",
       "4 4 1 3 -1"},
      {"{{ 'abc'.index('x') }}", nullptr},
      {R"({{ 'a\tbc\td'.expandtabs() }}|{{ 'a\tb'.expandtabs(4) }}|{{ 'a\tb'.expandtabs(tabsize=0) }})",
       "a       bc      d|a   b|ab"},
      {"{{ '½'.isnumeric() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '٣'.isdecimal() }} {{ '一'.isnumeric() }} "
       "{{ 'a1'.isalnum() }} {{ '²a'.isalnum() }}",
       "True True False True True True True"},
      {R"({{ 'Hello World'.istitle() }} {{ 'HEllo'.istitle() }} {{ 'abc'.isascii() }} {{ 'é'.isascii() }} {{ 'a_1'.isidentifier() }} {{ '1a'.isidentifier() }} {{ 'a\n'.isprintable() }} {{ ''.isprintable() }})",
       "True False True False True False False True"},
      {"{{ 'abcabc'.count('b', 2) }} {{ 'abcabc'.startswith('c', 2) }} {{ 'abcabc'.endswith(('x', 'b'), 0, 5) }} {{ "
       "'abc'.startswith('', 4) }}",
       "1 True True False"},
      {"{{ 'x'.replace(old='x', new='y') }}", nullptr},
      {"{{ [1, 2].copy() }} {{ {'a': 1}.copy() }} {{ {}.fromkeys('ab', 0) }} {{ dict.fromkeys(['a']) }} {{ [1, 2, "
       "1].index(1, 1) }}",
       "[1, 2] {'a': 1} {'a': 0, 'b': 0} {'a': None} 2"},
      {"{{ [1].append(2) }}", nullptr},
      {"{{ d.pop('b') }}", nullptr},
      {"{{ d.update({}) }}", nullptr},
      {"{% set x = {'pop': 1} %}{{ x.pop }}|{{ x['pop'] }}", "|1"},
  });
}

TEST(Jinja2, NamespacesAndDictsTakeAllForms) {
  expect_lines({
      {"{{ dict([('a', 1), ('b', 2)], c=3) }} {{ dict({'a': 1}, a=2) }} {{ dict() }}",
       "{'a': 1, 'b': 2, 'c': 3} {'a': 2} {}"},
      {"{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}{% set ns.c = 3 %}{{ ns.c }}", "123"},
      {"{% set ns = namespace([('a', 1), ('b', 2)]) %}{{ ns.a }}{{ ns.b }}", "12"},
      {"{% set ns = namespace(a=1, **{'b': 2}) %}{{ ns.a }}{{ ns.b }}", "12"},
      {"{% set ns = namespace(_a=1) %}{{ ns._a }}", nullptr},
  });
}

TEST(Jinja2, MacrosHaveCallersAndFurtherArguments) {
  expect_lines({
      {"{% macro f(x) %}[{{ caller() }}{{ x }}]{% endmacro %}{% call f(n) %}body{{ n }}{% endcall %}", "[body77]"},
      {"{% macro f(x) %}{% for i in x %}<{{ caller(i, loop.index) }}>{% endfor %}{% endmacro %}{% call(a, b) f(l) %}{{ "
       "a }}:{{ b }}{% endcall %}",
       "<3:1><1:2><2:3>"},
      {"{% macro f() %}{{ caller('p') }}{% endmacro %}{% call(a, b='q') f() %}{{ a }}{{ b }}{% endcall %}", "pq"},
      {"{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}", nullptr},
      {"{% macro f() %}{{ caller }}|{{ caller is defined }}{% endmacro %}{{ f() }}", "|False"},
      {"{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, x=4) }}{{ f(1) }}",
       "1(2, 3){'x': 4}1(){}"},
      {"{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", nullptr},
      {"{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, b=2) }}", nullptr},
      {"{% macro f(a, b=3) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }} {{ f(*[1], **{'b': 5}) }} {{ f(**{'a': 7}) "
       "}} {{ f(*l[:1], b=2) }}",
       "12 15 73 32"},
      {"{% macro f(a) %}{{ kwargs }}{% endmacro %}{{ f(1, a=2) }}", "{'a': 2}"},
      {"{% macro outer() %}{% call inner() %}{{ caller() }}{% endcall %}{% endmacro %}{% macro inner() %}({{ caller() "
       "}}){% endmacro %}{% call outer() %}z{% endcall %}",
       nullptr},
      {"{% macro f(caller=1) %}{{ caller }}{% endmacro %}{{ f() }}{{ f(2) }}", "12"},
      {"{% macro f(caller) %}{{ caller }}{% endmacro %}{{ f() }}", nullptr},
  });
}

TEST(Jinja2, LoopsAreRecursive) {
  expect_lines({
      {"{% for x in tree recursive %}{{ x.n }}{{ loop.depth }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}",
       "a1(b2c2(d3))e1"},
      {"{% for x in tree recursive %}{{ loop.depth0 }}{{ x.n }}[{{ loop(x.c) }}]{% else %}-{% endfor %}",
       "0a[1b[-]1c[2d[-]]]0e[-]"},
      {"{% for x in l %}{{ loop(l) }}{% endfor %}", nullptr},
      {"{% for x in tree if x.n != 'b' recursive %}{{ x.n }}{{ loop(x.c) }}{% endfor %}", "acde"},
  });
}

TEST(Jinja2, FiltersGroupAndBatch) {
  expect_lines({
      {"{% for g in rows|groupby('g') %}{{ g.grouper }}:{{ g.list|map(attribute='k')|join(',') }};{% endfor %}",
       "x:1,3;Y:2,2;"},
      {"{% for k, v in rows|groupby('g', case_sensitive=true) %}{{ k }}={{ v|length }} {% endfor %}",
       "X=1 Y=1 x=1 y=1 "},
      {"{{ rows|groupby('v.w', default='none')|map('first')|list }} {{ rows|groupby('k')|first|last|length }}",
       "['none', 'p', 'q'] 1"},
      {"{{ l|batch(2)|list }} {{ l|batch(2, 'x')|list }} {{ range(7)|batch(3)|map('sum')|list }} {{ l|batch(0)|list }}",
       "[[3, 1], [2]] [[3, 1], [2, 'x']] [3, 12, 6] [[], [3, 1, 2]]"},
      {"{{ range(7)|slice(3)|list }} {{ range(7)|slice(3, 'f')|list }} {{ l|slice(5)|list }}",
       "[[0, 1, 2], [3, 4], [5, 6]] [[0, 1, 2], [3, 4, 'f'], [5, 6, 'f']] [[3], [1], [2], [], []]"},
      {"{{ l|slice(0)|list }}", nullptr},
  });
}

TEST(Jinja2, MarkupEscapesWhatIsAddedToIt) {
  expect_lines({
      {"{{ h|escape }} {{ h|e }} {{ h|e|e }} {{ h|e|forceescape }} {{ h|safe|e }} {{ 5|e }}",
       "&lt;b&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/b&gt; &lt;b&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/b&gt; "
       "&lt;b&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/b&gt; &amp;lt;b&amp;gt;&amp;#34;x&amp;#34; &amp;amp; "
       "&amp;#39;y&amp;#39;&amp;lt;/b&amp;gt; <b>\"x\" & 'y'</b> 5"},
      {"{{ h|e + '<x>' }} {{ '<' + h|e }} {{ h|e ~ '<x>' }} {{ '<'|safe + '<' }} {{ (h|e)|upper }} {{ ['<a>'|e] }}",
       "&lt;b&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/b&gt;&lt;x&gt; &lt;&lt;b&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/b&gt; "
       "&lt;b&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/b&gt;<x> <&lt; &LT;B&GT;&#34;X&#34; &AMP; &#39;Y&#39;&LT;/B&GT; "
       "[Markup('&lt;a&gt;')]"},
      {"{{ ('<%s>'|safe) % '<' }} {{ ('<%s>'|safe) % ('<'|safe) }} {{ ('<{}>'|safe).format('<') }} {{ "
       "('<'|safe).join(['<', '>'|safe]) }} {{ ('a<'|safe).replace('a', '<') }}",
       "<&lt;> <<> <&lt;> &lt;<> &lt;<"},
      {"{{ ('<'|safe) * 2 + '<' }} {{ ('<a'|safe)[0] + '<' }} {{ ('<'|safe).upper() + '<' }} {{ ('<'|safe|trim) + '<' "
       "}} {{ ('<'|safe|string) + '<' }} {{ ('<' ~ ('<'|safe)) + '<' }}",
       "<<&lt; <&lt; <&lt; <&lt; <&lt; <<<"},
      {"{{ ('<a b'|safe).split()[0] + '<' }} {{ '<'|safe is escaped }} {{ '<' is escaped }} {{ ('<'|e)|length }} {{ "
       "('<'|safe) == '<' }} {{ ('%s'|safe|format('<')) }}",
       "<a&lt; True False 4 True &lt;"},
  });
}

TEST(Jinja2, FiltersOfPages) {
  expect_lines({
      {R"({{ '<p>a  <b>b</b>\n c &lt; &amp;#x41; &#66;</p><!-- x > y -->'|striptags }})", "a b c < &#x41; B"},
      {"{{ 'a b/c?d=é&x'|urlencode }} {{ {'a b': 'c/d', 'e': 1}|urlencode }} {{ [('x', 'y z')]|urlencode }} {{ "
       "5|urlencode }}",
       "a%20b/c%3Fd%3D%C3%A9%26x a+b=c%2Fd&e=1 x=y+z 5"},
      {R"({{ {'class': 'a "b"', 'no': none, 'id': 5}|xmlattr }}|{{ {'a': 1}|xmlattr(false) }}|{{ {}|xmlattr }})",
       " class=\"a &#34;b&#34;\" id=\"5\"|a=\"1\"|"},
      {"{{ {'a b': 1}|xmlattr }}", nullptr},
      {"{{ 1|filesizeformat }} {{ 999|filesizeformat }} {{ 1000|filesizeformat }} {{ 1234567|filesizeformat }} {{ "
       "1234567|filesizeformat(true) }} {{ 0|filesizeformat }} {{ '13000'|filesizeformat }} {{ 1e30|filesizeformat }}",
       "1 Byte 999 Bytes 1.0 kB 1.2 MB 1.2 MiB 0 Bytes 13.0 kB 1000000.0 YB"},
  });
}

TEST(Jinja2, JoinersAndCyclers) {
  expect_lines({
      {"{% set j = joiner('; ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}{% set j = joiner() %}{{ j() }}|{{ j() "
       "}}",
       "3; 1; 2|, "},
      {"{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ "
       "c.current }}{{ c.pos }}{{ c.items }}",
       "abbaNonea0('a', 'b')"},
      {"{{ cycler() }}", nullptr},
  });
}

TEST(Jinja2, BlocksAndOtherStatements) {
  expect_lines({
      {"{% block a %}x{{ n }}{% endblock %}|{% set q = 4 %}{% for i in l %}{% block b scoped %}{{ i }}{{ q }}{% "
       "endblock %}{% block c %}{{ i }}{{ q }}{% endblock %}{% endfor %}",
       "x7|344144244"},
      {"{% block a %}{% set w = 1 %}{% endblock a %}{{ w }}", ""},
      {"{% block a %}{% endblock %}{% block a %}{% endblock %}", nullptr},
      {"{% print n, s %}|{% autoescape false %}{{ h }}{% endautoescape %}", "7 Hello World \n|<b>\"x\" & 'y'</b>"},
      {"{% if n: %}a{% else: %}b{% endif %}{% for x in l: %}{{ x }}{% endfor %}", "a312"},
      {"{{ 'a' if n > 9 }}|{{ ('a' if n > 9) is defined }}|{{ 'x' if false else 'y' if false }}", "|False|"},
  });
}

TEST(Jinja2, LoopsGeneratorsAndRanges) {
  expect_lines({
      {"{% for x in l %}{{ loop.changed(x > 1) }}{{ loop.changed(x > 1) }} {% endfor %}{% for x in l %}{{ "
       "loop.cycle('o', 'e') }}{% endfor %}",
       "TrueFalse TrueFalse TrueFalse oeo"},
      {"{% set g = l|map('string') %}{{ g|join }}{{ g|join }}|{% set g = l|select %}{{ g|first }}{{ g|list }}|{% set g "
       "= l|select %}{{ 1 in g }}{{ g|list }}",
       "312|3[1, 2]|True[2]"},
      {"{{ range(3)|list }} {{ range(5)[1:3]|list }} {{ range(3)|length }} {{ range(3) == [0, 1, 2] }} {{ range(3)[1] "
       "}} {{ 2 in range(3) }}",
       "[0, 1, 2] [1, 2] 3 False 1 True"},
      {"{{ range(3) + [1] }}", nullptr},
      {"{{ rows|sort(attribute='g,k')|map(attribute='k')|list }} {{ rows|sort(attribute='k', "
       "reverse=true)|map(attribute='g')|list }}",
       "[1, 3, 2, 2] ['X', 'Y', 'y', 'x']"},
  });
}

TEST(Jinja2, Tests) {
  expect_lines({
      {"{{ '%s' is even }} {{ '%s' is odd }} {{ '%d' is divisibleby 3 }} {{ 2.0 is even }}", "False False False True"},
      {"{{ 'x' is even }}", nullptr},
      {"{{ l is escaped }} {{ loop is defined }} {{ n is divisibleby 7 }} {{ 'x' is filter }} {{ 'upper' is filter }} "
       "{{ 'odd' is test }} {{ n is in [7] }} {{ n is not in [7] }}",
       "False False True False True True True False"},
      {"{{ joiner is callable }} {{ l is iterable }} {{ u is string }} {{ d is mapping }} {{ range(2) is sequence }}",
       "True True True True True"},
      {"{% do l.append(1) %}", nullptr},
      {"{% include 'x' %}", nullptr},
      {"{{ self.a() }}", nullptr},
  });
}

TEST(Jinja2, FurtherFilters) {
  expect_lines({
      {"{{ rows|map(attribute='v.w', default='D')|join(',') }} {{ "
       "rows|map(attribute='v')|select('defined')|list|length }}",
       "p,D,q,D 2"},
      {"{{ [[1, 2], [3]]|sum(start=[]) }} {{ rows|sum('k') }}", "[1, 2, 3] 8"},
      {"{{ l|reverse|list }} {{ l|select|reverse }} {{ 'abc'|reverse }}", "[2, 1, 3] [2, 1, 3] cba"},
      {"{{ 'a-b c'|title }} {{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'foo bar "
       "baz qux'|truncate(11, false, '...', 0) }}",
       "A-B C foo... foo ba... foo bar..."},
      {"{{ 'x' * 3 }}{{ 2 * 'ab' }}{{ 'a' ~ 1 ~ none ~ true }}", "xxxababa1NoneTrue"},
      {"{{ '%s'|safe % '<' }}", "&lt;"},
  });
}

}  // namespace
}  // namespace plumb::jinja
