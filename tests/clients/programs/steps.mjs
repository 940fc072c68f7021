// What the programs for Node are made of; the same lines as steps.py's, which explains them.

export const URL = process.argv[2];
export const FIVE = "five";
export const LONG = "long";
export const JSON_MODEL = "json";
export const CALLER = "caller";
export const EMBED = "embed";
export const UNKNOWN = "nobody";
export const GO = [{ role: "user", content: "go" }];
export const QUESTION = [{ role: "user", content: "What is 2 + 3?" }];
export const TEXTS = ["horse", "a ranch"];
export const SCHEMA = {
  type: "object",
  properties: { colour: { type: "string" }, count: { type: "integer" } },
  required: ["colour", "count"],
};
export const TOOL = {
  type: "function",
  function: {
    name: "add",
    description: "Add two numbers",
    parameters: {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer" } },
      required: ["a", "b"],
    },
  },
};

function say(line) {
  console.log(JSON.stringify(line).replace('{"step":"', '{"step": "'));
}

function classes(raised) {
  const names = [];
  for (let kind = raised.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) {
    names.push(kind.name);
  }
  return [raised.name, ...names];
}

export async function run(steps) {
  for (const [step, take] of Object.entries(steps)) {
    try {
      say({ step, saw: await take() });
    } catch (raised) {
      say({ step, raised: classes(raised), text: String(raised.message) });
    }
  }
}

export async function collect(pieces) {
  const heard = [];
  for await (const piece of pieces) {
    heard.push(piece);
  }
  return heard;
}

export async function untilTheEnd(pieces) {
  let count = 0;
  for await (const _ of pieces) {
    count += 1;
    if (count === 1) {
      say({ step: "killed", begun: true });
    }
  }
  return `ended after ${count} pieces as if all were well`;
}
