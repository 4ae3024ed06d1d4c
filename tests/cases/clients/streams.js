// SPDX-License-Identifier: MIT

// streams.js LEASE JOB: see test_languages.py; with node's streams.

const fs = require('fs');
const { once } = require('events');
const readline = require('readline');

async function write(name, text) {
    const file = fs.createWriteStream(name);
    file.end(text);
    await once(file, 'close');
}

// Print what comes, a line at a time, and answer the first.
async function show(file) {
    for await (const line of readline.createInterface({ input: file })) {
        console.log(line);
        if (line === 'one')
            await write('ctl', 'signal USR1\n');
    }
}

async function main() {
    process.chdir(process.argv[2]);
    await write('cmd', process.argv[3]);
    await show(fs.createReadStream('output'));
    await show(fs.createReadStream('exit_code'));

    const fd = fs.openSync('cmd', 'r+');
    const file = fs.createWriteStream('cmd', { fd, autoClose: false });
    file.write('echo a');
    file.end('b');
    await once(file, 'finish');
    await show(fs.createReadStream('cmd', { fd }));

    await write('timeout', '0.2\n');
    await write('cmd', 'sleep 1000');
    await show(fs.createReadStream('exit_code'));
}

main();
