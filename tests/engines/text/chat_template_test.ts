import { deepEqual, equal, throws } from "node:assert/strict";
import type { ChatMessage } from "../../../core/task.ts";
import { ChatTemplate } from "../../../engines/text/chat_template.ts";
import { goldenJson } from "../golden.ts";

const { templates, cases } = goldenJson("text/chat_templates.json");
const OPTIONS = { bosToken: "<s>", eosToken: "</s>" };
const DATE = { date_string: "02 Jan 2026" };

const user = (content: string): ChatMessage => ({ role: "user", content });

for (const [i, { template, messages, rendered, error }] of cases.entries()) {
  Deno.test(`ChatTemplate renders "${template}" as transformers does (${i})`, () => {
    const render = () => new ChatTemplate(templates[template], OPTIONS).render(messages, DATE);
    if (rendered !== undefined) return equal(render(), rendered);
    throws(render, { code: "invalid_request", message: `Cannot build the prompt: ${error}` });
  });
}

/** Shows the order and the roles of what it is given. */
const PLAIN = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}" +
  "{% if add_generation_prompt %}>{% endif %}";

Deno.test("ChatTemplate moves system and developer messages to the front as one", () => {
  const messages: ChatMessage[] = [
    { role: "system", content: "a" },
    user("x"),
    { role: "developer", content: "b" },
    user("y"),
  ];
  equal(new ChatTemplate(PLAIN).render(messages), "[system:a\nb][user:x][user:y]>");
});

Deno.test("ChatTemplate continues a trailing assistant message", () => {
  const messages: ChatMessage[] = [user("x"), { role: "assistant", content: "The answer is" }];
  equal(new ChatTemplate(PLAIN).render(messages), "[user:x]>The answer is");
  deepEqual(messages.length, 2);
});

Deno.test("ChatTemplate gives templates no clock", () => {
  const template = "{{ strftime_now('%Y') if strftime_now is defined else 'no clock' }}";
  equal(new ChatTemplate(template).render([user("x")]), "no clock");
  throws(() => new ChatTemplate("{{ strftime_now('%Y') }}").render([user("x")]), {
    code: "invalid_request",
  });
});

Deno.test("ChatTemplate has Jinja's range() with a limit", () => {
  const render = (source: string) => new ChatTemplate(source).render([user("x")]);
  equal(render("{% for i in range(3) %}{{ i }}{% endfor %}"), "012");
  equal(render("{% for i in range(4, 0, -2) %}{{ i }}{% endfor %}"), "42");
  throws(() => render("{{ range(1000000000) }}"), { code: "invalid_request", message: /at most/ });
});

Deno.test("ChatTemplate names a template that does not parse", () => {
  throws(() => new ChatTemplate("{% for %}"), {
    code: "unsupported_model",
    message: /^Cannot parse the chat template of \d+ characters: /,
  });
});
