# SPDX-License-Identifier: MIT

# stream.rb LEASE JOB: see test_languages.py.

# Print what comes, a line at a time, and answer the first.
def show(name)
  File.foreach(name) do |line|
    print line
    File.write('ctl', "signal USR1\n") if line == "one\n"
  end
end

Dir.chdir(ARGV[0])
File.write('cmd', ARGV[1])
show('output')
show('exit_code')

File.open('cmd', 'r+') do |file|
  file.sync = true
  file.write('echo a')
  file.write('b')
  file.each_line { |line| print line }
end

File.write('timeout', "0.2\n")
File.write('cmd', 'sleep 1000')
print File.read('exit_code')
