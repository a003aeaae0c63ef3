// Files and folders that were dropped or chosen, sent one after the other.
import { upload } from "/page/server.js";

const AT_ONCE = 3;
const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i;

// Files with their paths, of a drop that may contain folders.
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found.filter(({ path }) => !HIDDEN.test(path));
}

async function walk(entry, above, found) {
  const path = above + entry.name;
  if (entry.isFile) found.push({ file: await new Promise((done, fail) => entry.file(done, fail)), path });
  if (!entry.isDirectory) return;
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) return;
    for (const child of part) await walk(child, `${path}/`, found);
  }
}

export const filesOfInput = (input) =>
  [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })).filter(({ path }) => !HIDDEN.test(path));

// into: a folder of the studio. Returns counts and problems; one file that is refused costs no other.
export async function uploadAll(files, { into, use, label }, progress) {
  const counts = { added: 0, "there already": 0 };
  const problems = [];
  const waiting = [...files];
  let done = 0;
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      try {
        counts[(await upload(next.file, { name: `${into}/${next.path}`, use, label })).outcome] += 1;
      } catch (error) {
        if (error.status === 401 || error.status === 0) throw error;
        problems.push({ path: next.path, problem: error.problem });
      }
      progress(++done, files.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { counts, problems };
}
