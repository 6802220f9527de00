// A task in JavaScript: greets somebody. World `task` of the package in wit/.

import { write } from "horarium:task/log@1.0.0";
import { attempt } from "horarium:task/execution@1.0.0";
import { report } from "horarium:task/progress@1.0.0";

const DESCRIPTION = {
  version: "0.1.0",
  summary: "Greets somebody",
  parameters_schema: {
    type: "object",
    required: ["name"],
    additionalProperties: false,
    properties: {
      name: { type: "string", minLength: 1, description: "Who is greeted" },
      times: { type: "integer", minimum: 1, maximum: 1000, default: 1 },
    },
  },
};

export const describe = {
  describe: () => JSON.stringify(DESCRIPTION),
};

export const run = {
  // Parameters come as JSON text, checked against the schema above; the result is JSON text too.
  run(text) {
    const { name, times } = JSON.parse(text);
    write("info", `greeting ${name}`, JSON.stringify({ attempt: attempt() }));
    console.log("what is printed is log as well");
    if (name === "nobody") {
      // What is thrown like this is the task's error; `by-policy` lets the host try again.
      throw { message: "there is nobody to greet", retry: { tag: "never" }, code: "nobody" };
    }
    report(1, "greeted");
    return JSON.stringify({ greeting: `Hello, ${name}!`.repeat(times) });
  },
};
